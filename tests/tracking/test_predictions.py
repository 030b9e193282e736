"""Predicted against true values of test rows, kept and drawn."""

import numpy as np
import pandas as pd
import pytest

from taskgroup.tracking import StudyRecord, write_study
from taskgroup.tracking.predictions import predictions_table, write_predictions

TARGETS = {
    "modulus": {"kind": "regression", "unit": "GPa", "transform": "log10"},
    "strain": {"kind": "regression", "unit": "", "transform": "signed_log"},
    "metal": {"kind": "classification", "unit": "", "transform": "none"},
    "unknown": {"kind": "regression", "unit": "eV", "transform": "none"},
}
TRUTH = {
    "modulus": np.array([1.0, np.nan, 100.0]),
    "strain": np.array([-20.0, 0.0, 3.0]),
    "metal": np.array([0.0, 1.0, 1.0]),
    "unknown": np.full(3, np.nan),
}


@pytest.fixture
def make_study():
    def make(folder, targets) -> None:
        dataset = {"name": "toy", "version": "1", "hash": "abc"}
        write_study(folder, StudyRecord("toy", {}, dataset, "split0", targets, {}))

    return make


@pytest.fixture
def run(tmp_path):
    values = {name: np.array([2.0, 3.0, 50.0]) for name in TRUTH} | {
        "metal": np.array([0.1, 0.8, 0.9])
    }
    frame = pd.DataFrame(
        {**values, **{f"{n}_std": np.full(3, 0.5) for n in TRUTH}},
        index=pd.Index(list("abc"), name="id"),
    )
    write_predictions(tmp_path, TRUTH, frame)
    return tmp_path


def test_the_table_has_truth_prediction_and_deviation_of_every_row(run) -> None:
    frame = pd.read_csv(run / "test_predictions.csv", index_col="id")
    np.testing.assert_array_equal(frame["modulus"], TRUTH["modulus"])
    assert frame.loc["c", "modulus_predicted"] == 50
    assert (frame["strain_std"] == 0.5).all()


def test_the_table_read_back_says_what_targets_mean(run, make_study) -> None:
    make_study(run, TARGETS)
    frame = predictions_table(run)
    assert list(frame.index) == ["a", "b", "c"]
    assert frame.attrs["targets"]["modulus"]["transform"] == "log10"
    assert frame.attrs["units"]["modulus"] == "GPa"


def test_a_run_without_predictions_has_an_empty_table(tmp_path, make_study) -> None:
    make_study(tmp_path, TARGETS)
    assert len(predictions_table(tmp_path)) == 0
