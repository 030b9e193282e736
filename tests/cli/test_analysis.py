"""``taskgroup transfer`` on a run folder whose networks were made up, with known errors."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from taskgroup.affinity import METRICS
from taskgroup.cli.analysis import transfer
from taskgroup.datasets import TargetScaler, load_dataset
from taskgroup.execution.results import ResultStore, network_path, prediction_path
from taskgroup.export.network_file import write_network
from taskgroup.grouping import Grouping
from taskgroup.models import ModelConfig
from taskgroup.study.transfer import study_transfer
from taskgroup.tracking import FinalRecord, Interval, StudyRecord, write_final, write_study
from taskgroup.training import GroupJob, GroupResult, TrainConfig, fit, group_metrics

TARGETS = ("bulk_modulus", "density", "volume")
SPLIT = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
MODEL = ModelConfig(backbone="descriptors")
# error of each target, in standard deviations, in each group: density helps bulk_modulus, volume harms it
ERRORS = {
    ("bulk_modulus",): {"bulk_modulus": 0.5},
    ("density",): {"density": 0.5},
    ("volume",): {"volume": 0.5},
    ("bulk_modulus", "density"): {"bulk_modulus": 0.2, "density": 0.5},
    ("bulk_modulus", "volume"): {"bulk_modulus": 0.9, "volume": 0.5},
    ("density", "volume"): {"density": 0.5, "volume": 0.2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of four seeds of every single and pair."""
    folder = tmp_path_factory.mktemp("runs") / "made-up"
    data = load_dataset("crystals")
    rows = (
        data.splits(by="chemical_system", folds=5, seed=0)
        .split(test_fold=0, validation_fold=1)
        .validation
    )
    store, random = ResultStore(folder / "results"), np.random.default_rng(0)
    for seed in range(4):
        for targets, errors in ERRORS.items():
            table = data.targets.select(targets).rows(rows)
            scaler = TargetScaler.fit(table.specs, table.values)
            noise = random.normal(size=table.values.shape) * [errors[name] for name in targets]
            predictions = np.nan_to_num(scaler.decode(scaler.encode(table.values) + noise), nan=1)
            job = GroupJob(
                targets, MODEL, TrainConfig(epochs=1), seed, "crystals", data.hash, SPLIT
            )
            metrics = group_metrics(table.specs, table.values, predictions)
            store.add(GroupResult(job, metrics, (), 1.0, 1, 1, 100))
            path = prediction_path(folder, job.key)
            path.parent.mkdir(exist_ok=True)
            np.save(path, predictions.astype(np.float32))
    config = {
        "name": "made-up",
        "dataset": "crystals",
        "targets": list(TARGETS),
        "space": {"grouping": {}},
    }
    kinds = {name: {"kind": "regression", "unit": "", "transform": "none"} for name in TARGETS}
    dataset = {"name": data.name, "version": data.version, "hash": data.hash}
    write_study(
        folder, StudyRecord("made-up", config, dataset, "split", kinds, {}, state="finished")
    )
    again, test = Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.5, 0.6)
    write_final(folder, FinalRecord(Grouping.singles(TARGETS), "singles", 0.7, again, test, {}, {}))
    return folder


def show(run, *options):
    result = CliRunner().invoke(transfer, [str(run), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_names_gains_negative_transfers_measures_and_the_winners_curse(run):
    report = json.loads(show(run, "--format", "json"))
    verdicts = {(row["target"], row["group"]): row["verdict"] for row in report["gains"]}
    assert verdicts["bulk_modulus", "bulk_modulus + density"] == "gain"
    assert verdicts["bulk_modulus", "bulk_modulus + volume"] == "negative transfer"
    assert report["negative"][0]["target"] == "bulk_modulus"
    assert {row["measure"] for row in report["measures"]} >= {
        "|spearman|",
        "|distance_correlation|",
    }
    assert all(row["pairs"] == 6 for row in report["measures"])
    assert report["winners_curse"]["optimism"] == pytest.approx(0.1)
    assert report["unpaired"] == 0


def test_csv_and_the_files_of_out_hold_the_same_rows(run, tmp_path):
    printed = show(run, "--format", "csv", "--out", str(tmp_path / "tables"))
    assert printed == (tmp_path / "tables" / "gains.csv").read_text()
    assert printed.splitlines()[0] == "target,group,gain,low,high,runs,verdict"
    assert len(printed.splitlines()) == 7
    assert (
        (tmp_path / "tables" / "measures.csv")
        .read_text()
        .startswith("measure,correlation,low,high,pairs\n")
    )


def test_the_table_says_plainly_who_loses_what(run):
    text = show(run)
    assert "Negative transfer: bulk_modulus loses" in text
    assert "Winner's curse: validation +0.700, re-evaluated +0.600, test +0.550" in text


def test_kept_networks_and_a_joint_run_add_their_measures(run, tmp_path):
    folder = tmp_path / "kept"
    shutil.copytree(run, folder)
    data = load_dataset("crystals")
    split = data.splits(by="chemical_system", folds=5, seed=0).split(test_fold=0, validation_fold=1)
    path = network_path(folder, "")
    path.parent.mkdir()
    for name in TARGETS:
        job = GroupJob((name,), MODEL, TrainConfig(epochs=1), 0, "crystals", data.hash, SPLIT)
        write_network(network_path(folder, job.key), fit(data, split, job).network)
    report = study_transfer(folder, gradients=True)
    measures = {score.measure: score for score in report.measures}
    features = {name for name, metric in METRICS.items() if metric.takes == "features"}
    assert measures.keys() >= features | {"gradient", "look_ahead", "projected", "|pearson|"}
    assert measures["ridge"].pairs == 6


def test_a_folder_that_is_no_run_is_bad_input(tmp_path):
    from taskgroup.errors import RunError

    with pytest.raises(RunError, match=r"holds study\.json"):
        CliRunner().invoke(transfer, [str(tmp_path)], catch_exceptions=False)
