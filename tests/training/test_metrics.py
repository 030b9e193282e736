"""Metrics against scikit-learn, closed forms and degenerate columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from taskgroup.datasets import Target, TargetScaler
from taskgroup.training.metrics import (
    auc_score,
    group_metrics,
    interval,
    mean_skill,
    output_skills,
    r2_score,
    target_metrics,
)

MODULUS = Target("modulus", unit="GPa", transform="log10")
GAP = Target("gap", unit="eV")
METAL = Target("metal", kind="classification")


def _modulus(rows=60, seed=0):
    random = np.random.default_rng(seed)
    truth = 10 ** random.normal(2, 0.4, rows)
    return truth, truth * 10 ** random.normal(0, 0.1, rows)


def _metal(rows=80, seed=0):
    random = np.random.default_rng(seed)
    truth = (random.random(rows) < 0.4).astype(float)
    return truth, np.round(
        np.clip(0.3 * truth + random.random(rows) * 0.7, 0, 1), 1
    )  # rounded: many ties


def test_regression_metrics_agree_with_scikit_learn():
    truth, predicted = _modulus()
    found = target_metrics(MODULUS, truth, predicted)
    assert found["n"] == 60
    assert found["r2"] == pytest.approx(
        sk.r2_score(np.log10(truth), np.log10(predicted)), rel=1e-12
    )
    assert found["skill"] == found["r2"]
    assert found["r2_natural"] == pytest.approx(sk.r2_score(truth, predicted), rel=1e-12)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted), rel=1e-12)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, predicted), rel=1e-12)


def test_classification_metrics_agree_with_scikit_learn_with_ties():
    truth, probability = _metal()
    found = target_metrics(METAL, truth, probability)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(truth, probability), rel=1e-12)
    assert found["skill"] == pytest.approx(2 * found["auc"] - 1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, probability >= 0.5))
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, clipped), rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_area_counts_pairs_in_order_and_half_of_the_ties(rows):
    truth, score = np.array(rows, dtype=float).T
    pairs = [(p > n) + 0.5 * (p == n) for p in score[truth == 1] for n in score[truth == 0]]
    if pairs:
        assert auc_score(truth, score) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auc_score(truth, score))


def test_rows_without_a_label_do_not_count():
    truth, predicted = _modulus()
    with_holes = truth.copy()
    with_holes[::3] = np.nan
    kept = np.isfinite(with_holes)
    assert target_metrics(MODULUS, with_holes, predicted) == target_metrics(
        MODULUS, truth[kept], predicted[kept]
    )


@pytest.mark.parametrize("spec", [MODULUS, GAP, METAL])
def test_a_target_without_labels_has_no_metrics(spec):
    found = target_metrics(spec, [np.nan, np.nan], [0.5, 0.5])
    assert found["n"] == 0
    assert {value for name, value in found.items() if name != "n"} == {None}


def test_a_constant_column_has_errors_but_no_skill():
    found = target_metrics(GAP, [0.1, 0.1, 0.1], [0.0, 0.1, 0.2])
    assert found["skill"] is None
    assert found["r2_natural"] is None
    assert found["mae"] == pytest.approx(0.2 / 3)


def test_one_class_has_accuracy_but_no_area():
    found = target_metrics(METAL, [1.0, 1.0], [0.9, 0.2])
    assert found["auc"] is None
    assert found["skill"] is None
    assert found["accuracy"] == 0.5


def test_the_mean_of_the_truth_has_skill_zero_and_the_truth_one():
    truth, _ = _modulus()
    mean = np.full_like(truth, 10 ** np.log10(truth).mean())
    assert target_metrics(MODULUS, truth, mean)["skill"] == pytest.approx(0, abs=1e-12)
    assert target_metrics(MODULUS, truth, truth)["skill"] == 1


def test_predictions_out_of_range_of_a_log_target_give_a_very_low_skill_not_an_error():
    truth, predicted = _modulus()
    predicted[0], predicted[1] = 0.0, np.inf
    assert target_metrics(MODULUS, truth, predicted)["skill"] < -1


def test_skills_of_outputs_equal_those_of_predictions_in_units():
    specs = (MODULUS, GAP, METAL)
    modulus, _ = _modulus(80)
    metal, _ = _metal(80)
    random = np.random.default_rng(1)
    truth = np.stack([modulus, random.normal(2, 1, 80), metal], axis=1)
    truth[random.random(truth.shape) < 0.2] = np.nan
    scaler = TargetScaler.fit(specs, truth)
    labels = scaler.encode(truth)
    outputs = np.nan_to_num(labels) + random.normal(0, 0.5, labels.shape)
    predicted = scaler.decode(outputs)
    predicted[:, 2] = 1 / (1 + np.exp(-outputs[:, 2]))
    skills = {
        name: values["skill"] for name, values in group_metrics(specs, truth, predicted).items()
    }
    found = output_skills(specs, labels, outputs, np.ones((1, 80)))
    assert found[0].tolist() == pytest.approx(list(skills.values()), rel=1e-9)


def test_mean_skill_clips_each_target_at_minus_one():
    assert mean_skill({"a": -50.0, "b": 0.5, "c": None}) == pytest.approx(-0.25)
    assert np.isnan(mean_skill({"a": None}))


def test_weighted_scores_equal_scores_of_repeated_rows():
    truth, predicted = _modulus(20)
    counts = np.random.default_rng(0).integers(0, 4, (5, 20)).astype(float)
    metal, probability = _metal(20)
    for i, row in enumerate(counts.astype(int)):
        expected = sk.r2_score(np.repeat(truth, row), np.repeat(predicted, row))
        assert r2_score(truth, predicted, counts)[i] == pytest.approx(expected)
        area = sk.roc_auc_score(np.repeat(metal, row), np.repeat(probability, row))
        assert auc_score(metal, probability, counts)[i] == pytest.approx(area)


def test_an_interval_is_seeded_holds_the_value_and_narrows_with_rows():
    few, many = _modulus(40), _modulus(4000)
    narrow, wide = interval(MODULUS, *many), interval(MODULUS, *few)
    assert wide == interval(MODULUS, *few)
    assert wide.low < wide.mean < wide.high
    assert narrow.high - narrow.low < 0.3 * (wide.high - wide.low)


def test_the_interval_of_an_error_agrees_with_the_normal_approximation():
    truth, predicted = _modulus(2000)
    error = np.abs(truth - predicted)
    found = interval(MODULUS, truth, predicted, "mae", draws=4000)
    half = 1.96 * error.std() / np.sqrt(len(error))
    assert found.mean == pytest.approx(error.mean())
    assert found.low == pytest.approx(error.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(error.mean() + half, abs=0.2 * half)


def test_an_interval_over_seeds_is_wider_where_seeds_disagree():
    truth, predicted = _modulus(500)
    same = np.stack([predicted] * 5)
    spread = np.stack(
        [predicted * 10 ** np.random.default_rng(s).normal(0, 0.05 * s, 500) for s in range(5)]
    )
    agreeing, differing = interval(MODULUS, truth, same), interval(MODULUS, truth, spread)
    assert agreeing.low == pytest.approx(interval(MODULUS, truth, predicted).low)
    assert differing.high - differing.low > 2 * (agreeing.high - agreeing.low)


@pytest.mark.parametrize("metric", ["skill", "auc", "accuracy"])
def test_intervals_of_classes_hold_the_value(metric):
    truth, probability = _metal()
    found = interval(METAL, truth, probability, metric)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(target_metrics(METAL, truth, probability)[metric])


def test_an_interval_without_labels_is_empty():
    found = interval(GAP, [np.nan], [1.0])
    assert (found.mean, found.low, found.high) == (None, None, None)
