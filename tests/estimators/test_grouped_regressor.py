"""Targets of a feature matrix are grouped, honestly and as scikit-learn expects it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from taskgroup.errors import GroupingError
from taskgroup.estimators import GroupedRegressor


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, pd.DataFrame]:
    """Eight noisy copies of one signal, which help each other in a joint forest, and one target of its own."""
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 6))
    signal = np.sin(2 * X[:, 0]) + X[:, 1]
    columns = {f"copy {i}": signal + random.normal(0, 1.5, 120) for i in range(4)}
    columns["other"] = X[:, 5] ** 2 + random.normal(0, 0.1, 120)
    return X, pd.DataFrame(columns)


def forest() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(n_estimators=15, min_samples_leaf=3)


@parametrize_with_checks([GroupedRegressor(Ridge(), cv=3), GroupedRegressor(forest(), cv=3)])
def test_it_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def test_noisy_copies_are_learnt_together_and_another_target_is_left_alone(data):
    model = GroupedRegressor(forest(), cv=4).fit(*data)
    assert model.target_names_ == ("copy_0", "copy_1", "copy_2", "copy_3", "other")
    assert model.grouping_.serving("other").targets == ("other",)
    joint = model.gains_[model.gains_["group"].str.contains(r"copy_\d \+ copy_\d")]
    assert len(joint) >= 3
    assert (joint["gain"] > 0).all()
    assert (joint["low"] < joint["gain"]).all()
    assert model.predict(data[0]).shape == (120, 5)


def test_the_gains_are_the_differences_of_the_scores_of_the_sets_that_were_tried(data):
    model = GroupedRegressor(forest(), cv=4, n_candidates=3).fit(*data)
    # Five targets alone, and three sets.
    assert len(model.scores_) == 8
    scores = model.scores_.set_index("targets")
    for row in model.gains_.itertuples():
        assert row.r2 == scores.loc[row.group, row.target]
        assert row.r2_alone == scores.loc[row.target, row.target]
        if row.group != row.target:
            assert row.gain == pytest.approx(row.r2 - row.r2_alone)


def test_a_linear_model_gains_nothing_by_joining(data):
    X, Y = data
    model = GroupedRegressor(Ridge(), cv=4).fit(X, Y)
    known = model.gains_.dropna(subset="gain")
    np.testing.assert_allclose(known["gain"], 0, atol=1e-9)
    # Standardised labels and their means make this the plain model of all targets.
    alone = Ridge().fit(X, (Y - Y.mean()) / Y.std(ddof=0)).predict(X)
    np.testing.assert_allclose(
        model.predict(X), alone * Y.std(ddof=0).to_numpy() + Y.mean().to_numpy()
    )


def test_labels_may_be_missing_and_what_joining_costs_in_rows_counts(data):
    X, Y = data
    Y = Y.copy()
    # Together, these two would have four rows to learn from.
    Y.iloc[:60, 0] = np.nan
    Y.iloc[64:, 1] = np.nan
    model = GroupedRegressor(forest(), cv=4).fit(X, Y)
    both = [group for group in model.grouping_.groups if {"copy_0", "copy_1"} <= set(group.targets)]
    assert both == []
    assert np.isfinite(model.predict(X)).all()


def test_the_number_of_models_may_be_limited(data):
    model = GroupedRegressor(Ridge(), cv=3, max_models=1).fit(*data)
    assert len(model.models_) == 1


def test_it_works_in_pipelines_and_cross_validation(data):
    X, Y = data
    pipeline = make_pipeline(StandardScaler(), GroupedRegressor(forest(), cv=3, n_candidates=2))
    scores = cross_val_score(clone(pipeline), X, Y, cv=3)
    assert scores.shape == (3,)
    assert (scores > 0.1).all()


def test_equal_seeds_give_equal_models(data):
    first = GroupedRegressor(forest(), cv=3, n_candidates=2).fit(*data)
    second = GroupedRegressor(forest(), cv=3, n_candidates=2).fit(*data)
    np.testing.assert_array_equal(first.predict(data[0]), second.predict(data[0]))


def test_unknown_measures_and_methods_are_named(data):
    with pytest.raises(GroupingError, match="did you mean 'spearman'"):
        GroupedRegressor(Ridge(), measure="spearmann").fit(*data)
    with pytest.raises(GroupingError, match="did you mean 'louvain'"):
        GroupedRegressor(Ridge(), method="luvain").fit(*data)


def test_rows_of_labels_must_be_those_of_features(data):
    with pytest.raises(ValueError, match="120 rows of X, found 20"):
        GroupedRegressor(Ridge()).fit(data[0], data[1][:20])
