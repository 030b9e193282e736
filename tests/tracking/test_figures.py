"""The figures of a run: saved for a paper with their numbers, and drawn from the same tables."""

import numpy as np
import pandas as pd
import pytest

from taskgroup.affinity import Affinity
from taskgroup.errors import ConfigError
from taskgroup.intervals import Interval
from taskgroup.tracking import FinalRecord, write_final
from taskgroup.tracking.figure_list import run_figures
from taskgroup.tracking.figures import save_figures
from taskgroup.tracking.learning_points import LearningPoint, write_learning
from taskgroup.tracking.predictions import write_predictions

GAINS = Affinity(("band_gap", "density"), [[np.nan, 0.1], [-0.05, np.nan]], measure="measured gain")


@pytest.fixture
def finished(run, records):
    gains = {"density": Interval(0.1, 0.05, 0.15, 3), "volume": Interval(0.01, -0.1, 0.12, 3)}
    test = {"density": {"n": 12, "skill": 0.5, "gain": 0.07, "gain_low": 0.01, "gain_high": 0.2}}
    chosen = records[5].grouping
    value = Interval(0.6, 0.5, 0.7, 3)
    write_final(run, FinalRecord(chosen, "assembled-2", 0.65, value, value, gains, test))
    truth = {"density": np.array([1.0, 2.0, 4.0]), "volume": np.full(3, np.nan)}
    columns = {name: np.array([1.5, 2.0, 3.0]) for name in truth}
    columns |= {f"{name}_std": np.full(3, 0.1) for name in truth}
    write_predictions(run, truth, pd.DataFrame(columns, index=pd.Index(list("abc"), name="id")))
    points = [LearningPoint(share, 100 * share, value, {"density": value}) for share in (0.5, 1.0)]
    write_learning(run, points)
    (run / "affinity").mkdir()
    (run / "affinity" / "spearman.json").write_text(
        Affinity(("band_gap", "density", "volume"), np.full((3, 3), 0.5)).to_json()
    )
    (run / "transfer").mkdir()
    (run / "transfer" / "pairwise.json").write_text(GAINS.to_json())
    return run


def test_a_finished_run_has_a_figure_for_everything_it_measured(finished) -> None:
    names = [figure.name for figure in run_figures(finished)]
    assert names == [
        "gains_test", "gains", "parity", "learning_curve", "target_graph", "affinity", "transfer", "search",
        "training_curves",
    ]  # fmt: skip


def test_figures_for_a_paper_have_its_width_and_their_numbers_beside_them(finished, tmp_path):
    written = save_figures(finished, tmp_path / "figures", "nature", ["pdf", "svg"])
    names = {path.name for path in written}
    assert {"gains_test.csv", "gains_test.pdf", "parity.svg"} <= names
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    svg = (tmp_path / "figures" / "gains_test.svg").read_text()
    width_in_points = float(svg.split('width="')[1].split("pt")[0])
    assert width_in_points == pytest.approx(89 / 25.4 * 72)
    gains = pd.read_csv(tmp_path / "figures" / "gains_test.csv")
    assert gains.to_dict("records") == [
        {"target": "density", "gain": 0.07, "low": 0.01, "high": 0.2, "verdict": "helped"}
    ]
    parity = pd.read_csv(tmp_path / "figures" / "parity.csv", index_col="id")
    assert parity.loc["c", "density_predicted"] == 3.0


def test_unknown_styles_and_formats_are_refused(finished, tmp_path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'nature'"):
        save_figures(finished, tmp_path, "natur")
    with pytest.raises(ConfigError, match="unknown format 'gif'"):
        save_figures(finished, tmp_path, formats=["gif"])


def test_an_unfinished_run_has_the_figures_there_are_numbers_for(run, make_run) -> None:
    assert [figure.name for figure in run_figures(run)] == ["search", "training_curves"]
    assert run_figures(make_run([], "empty")) == []
