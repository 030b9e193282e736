"""Studies are compared on the test rows and targets they share, paired row by row."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from taskgroup.cli import cli
from taskgroup.errors import RunError
from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval
from taskgroup.study.side_by_side import side_by_side
from taskgroup.tracking import FinalRecord, StudyRecord, write_final, write_study
from taskgroup.tracking.predictions import write_predictions

TARGETS = {
    "gap": {"kind": "regression", "unit": "eV", "transform": "none"},
    "modulus": {"kind": "regression", "unit": "GPa", "transform": "log10"},
}
RANDOM = np.random.default_rng(0)
TRUTH = {"gap": RANDOM.normal(2, 1, 40), "modulus": 10 ** RANDOM.normal(2, 0.3, 40)}


@pytest.fixture
def make_run(tmp_path):
    def make(name, error, rows=40, targets=("gap", "modulus"), finished=True, **specs):
        folder = tmp_path / name
        dataset = {"name": "toy", "version": "1", "hash": "abc"}
        described = {target: TARGETS[target] | specs.get(target, {}) for target in targets}
        folder.mkdir()
        write_study(folder, StudyRecord(name, {}, dataset, "split0", described, {}))
        noise = np.random.default_rng(1).normal(0, error, 40)
        columns = {}
        for target in targets:
            columns[target] = TRUTH[target] * np.exp(noise)
            columns[f"{target}_std"] = np.full(40, 0.1)
        index = pd.Index([f"row-{i}" for i in range(40)], name="id")
        predicted = pd.DataFrame(columns, index=index).iloc[40 - rows :]
        truth = {target: TRUTH[target][40 - rows :] for target in targets}
        write_predictions(folder, truth, predicted)
        if finished:
            value = Interval(0.5, 0.4, 0.6, 3)
            final = FinalRecord(Grouping.together(targets), "together", 0.5, value, value, {}, {})
            write_final(folder, final)
        return folder

    return make


def test_the_better_study_is_named_with_its_paired_interval(make_run):
    compared = side_by_side([make_run("rough", 0.3), make_run("fine", 0.1)])
    assert compared.n_rows == 40
    rough, fine = compared.runs
    gain = fine.gain_over(rough, "mean")
    assert gain.low > 0
    assert gain.mean == pytest.approx(fine.skill("mean").mean - rough.skill("mean").mean)
    # Both make their errors on the same rows, so the difference is known better than either.
    assert gain.high - gain.low < rough.skill("mean").high - rough.skill("mean").low


def test_only_common_rows_and_targets_count(make_run):
    compared = side_by_side([make_run("all", 0.2), make_run("part", 0.2, 25, ["gap"])])
    assert (compared.n_rows, compared.targets) == (25, ("gap",))
    assert compared.runs[1].gain_over(compared.runs[0], "gap").mean == 0
    frame = compared.frame()
    assert list(frame["run"]) == ["all", "part"] * 2
    assert frame["difference"].isna().tolist() == [True, False] * 2


def test_runs_that_cannot_be_compared_are_refused(make_run, tmp_path):
    first = make_run("first", 0.2)
    with pytest.raises(RunError, match="two runs at least"):
        side_by_side([first])
    with pytest.raises(RunError, match="has not ended"):
        side_by_side([first, make_run("open", 0.2, finished=False)])
    with pytest.raises(RunError, match="mean different things"):
        side_by_side([first, make_run("other", 0.2, gap={"transform": "signed_log"})])
    changed = make_run("changed", 0.2)
    path = changed / "test_predictions.csv"
    table = pd.read_csv(path, index_col="id")
    table.loc["row-7", "gap"] += 1
    table.to_csv(path)
    with pytest.raises(RunError, match="'gap' of row 'row-7' differs"):
        side_by_side([first, changed])


def test_the_command_prints_a_table_a_sentence_or_json(make_run):
    runs = [str(make_run("rough", 0.3)), str(make_run("fine", 0.1))]
    shown = CliRunner().invoke(cli, ["compare", *runs])
    assert "fine is better than rough" in shown.output
    assert "40 common test rows, 2 common targets" in shown.output
    content = json.loads(CliRunner().invoke(cli, ["compare", *runs, "--json"]).output)
    assert content["targets"] == ["gap", "modulus"]
    assert content["scores"][0]["difference"] is None
    text = CliRunner().invoke(cli, ["compare", *runs, "--format", "csv"]).output
    assert text.startswith("target,run,networks,skill,low,high,difference")
