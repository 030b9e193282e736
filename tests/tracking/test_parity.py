"""Predicted against true values of test rows, kept and drawn."""

import re

import numpy as np
import pandas as pd
import pytest

from taskgroup.tracking.parity import parity_figure, write_predictions

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


def test_every_target_with_labels_has_a_picture_with_a_point_a_labelled_row(run) -> None:
    svg = parity_figure(run, TARGETS)
    for name in ("modulus", "strain", "metal"):
        assert f">{name}<" in svg
    assert ">unknown<" not in svg
    assert ">true, GPa<" in svg
    points = re.findall(r'<g id="PathCollection_\d+">(.*?)</g>\s*</g>', svg, re.DOTALL)
    assert [collection.count("<use ") for collection in points] == [2, 3]  # of modulus, of strain


def test_a_run_without_predictions_has_no_picture(tmp_path) -> None:
    assert parity_figure(tmp_path, TARGETS) == ""
