"""Measures of relation between labels: known values, second implementations, and what happens at the edges."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from sklearn.feature_selection import mutual_info_regression

from taskgroup.affinity import (
    MEASURES,
    Affinity,
    affinity_matrix,
    correlation_ratio,
    cramers_v,
    distance_correlation,
    find_measure,
    information_correlation,
    kendall,
    mutual_information,
    pearson,
    spearman,
)
from taskgroup.affinity.testing import MeasureConformance
from taskgroup.datasets import Target, TargetTable
from taskgroup.errors import GroupingError


class TestPearson(MeasureConformance):
    measure = staticmethod(pearson)


class TestSpearman(MeasureConformance):
    measure = staticmethod(spearman)


class TestKendall(MeasureConformance):
    measure = staticmethod(kendall)


class TestDistanceCorrelation(MeasureConformance):
    measure = staticmethod(distance_correlation)


class TestMutualInformation(MeasureConformance):
    measure = staticmethod(information_correlation)


def normal_pair(rho, n, seed=0):
    x, noise = np.random.default_rng(seed).standard_normal((2, n))
    return x, rho * x + np.sqrt(1.0 - rho**2) * noise


def classes(counts):
    """Two lists of classes with that contingency table."""
    counts = np.array(counts)
    i, j = np.indices(counts.shape)
    return np.repeat(i.ravel(), counts.ravel()), np.repeat(j.ravel(), counts.ravel())


def table(columns, kinds=None):
    """A table of the named columns; kinds names those that are not regression."""
    specs = tuple(Target(name, kind=(kinds or {}).get(name, "regression")) for name in columns)
    values = np.column_stack(list(columns.values()))
    return TargetTable(specs, tuple(map(str, range(len(values)))), values)


# -- single measures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)]
)
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.4])
def test_correlations_agree_with_scipy(ours, theirs, rho):
    x, y = normal_pair(rho, 40)
    expected = theirs(x, y)
    assert ours(x, y) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


def test_an_exact_line_is_one_with_p_zero():
    x = np.arange(10.0)
    assert pearson(x, -3.0 * x + 1.0) == pytest.approx((-1.0, 0.0), abs=1e-12)


def test_distance_correlation_has_its_known_value():
    x = np.arange(1.0, 6.0)
    assert distance_correlation(x, (x - 3.0) ** 2).value == pytest.approx(0.5159234569, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=40))
def test_distance_correlation_agrees_with_its_definition_by_matrices(pairs):
    x, y = np.array(pairs, dtype=float).T
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        assert math.isnan(distance_correlation(x, y).value)
        return
    a, b = (squareform(pdist(values[:, None])) for values in (x, y))
    a, b = (d - d.mean(0) - d.mean(1)[:, None] + d.mean() for d in (a, b))
    expected = np.sqrt(max(0.0, (a * b).mean()) / np.sqrt((a * a).mean() * (b * b).mean()))
    # both are roots of differences of sums near 1, so zero is only zero to the root of the rounding
    assert distance_correlation(x, y).value == pytest.approx(expected, abs=1e-6)


def test_distance_correlation_sees_what_is_not_monotone():
    x = np.random.default_rng(0).uniform(-1.0, 1.0, 300)
    assert pearson(x, x**2).p > 0.01
    assert distance_correlation(x, x**2).p < 1e-10
    assert information_correlation(x, x**2).p == pytest.approx(0.001)


def test_distance_correlation_and_information_of_normal_pairs_have_their_closed_forms():
    samples = [normal_pair(0.5, 2000, seed) for seed in range(12)]
    squares = [distance_correlation(*pair).value ** 2 for pair in samples]
    informations = [mutual_information(*pair) for pair in samples]
    for values, expected in ((squares, 0.2062308820), (informations, 0.1438410362)):
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(expected, abs=3.0 * error)
        assert error < 0.01


def test_information_on_the_scale_of_a_correlation_is_rho_for_normal_pairs():
    values = [information_correlation(*normal_pair(0.8, 1500, seed)).value for seed in range(5)]
    assert np.mean(values) == pytest.approx(0.8, abs=0.02)


def test_mutual_information_agrees_with_sklearn():
    x, y = normal_pair(0.9, 1000)
    expected = mutual_info_regression(x[:, None], y, n_neighbors=3, random_state=0)[0]
    assert mutual_information(x, y) == pytest.approx(expected, abs=0.05)


def test_mutual_information_does_not_change_under_monotone_transforms():
    x, y = normal_pair(0.6, 200)
    assert mutual_information(np.exp(5.0 * x), y**3) == mutual_information(x, y)


def test_distance_correlation_of_many_rows_is_quick_enough_to_finish():
    x, y = normal_pair(0.5, 50_000)
    assert distance_correlation(x, y).value ** 2 == pytest.approx(0.2062308820, abs=0.01)


def test_cramers_v_has_its_known_values():
    a, b = classes([[10, 20], [30, 5]])
    assert cramers_v(a, b, bias_corrected=False).value == pytest.approx(0.5367450401, abs=1e-10)
    assert cramers_v(a, b).value == pytest.approx(0.5261132602, abs=1e-10)
    expected = stats.chi2_contingency([[10, 20], [30, 5]], correction=False)
    assert cramers_v(a, b).p == pytest.approx(expected.pvalue)
    assert cramers_v(a, a).value == pytest.approx(1.0)


def test_correlation_ratio_has_its_known_value():
    algebra, geometry, statistics = [45, 70, 29, 15, 21], [40, 20, 30, 42], [65, 95, 80, 70, 85, 73]
    topics = np.repeat([0, 1, 2], [5, 4, 6])
    eta, p = correlation_ratio(topics, np.array(algebra + geometry + statistics, dtype=float))
    assert eta**2 == pytest.approx(6780 / 9640)
    assert p == pytest.approx(stats.f_oneway(algebra, geometry, statistics).pvalue)


def test_correlation_ratio_of_two_classes_is_the_point_biserial_correlation():
    x, y = normal_pair(-0.6, 80)
    expected = stats.pointbiserialr(x > 0.0, y)
    assert correlation_ratio(x > 0.0, y) == pytest.approx((-expected.statistic, expected.pvalue))


def test_classes_that_cannot_be_compared_are_undefined():
    numbers = np.arange(4.0)
    assert math.isnan(correlation_ratio(np.zeros(4), numbers).value)
    assert math.isnan(correlation_ratio(np.array([0, 1, 0, 1]), np.ones(4)).value)
    assert math.isnan(cramers_v(np.zeros(4), numbers).value)
    assert correlation_ratio(numbers, numbers) == (
        1.0,
        1.0,
    )  # a class of its own for each says nothing
    assert correlation_ratio(np.array([0, 0, 1, 1]), np.array([2.0, 2.0, 5.0, 5.0])) == (1.0, 0.0)


# -- the matrix ------------------------------------------------------------------------------------------------------


def mixed_table(rows=80, seed=0):
    rng = np.random.default_rng(seed)
    a, b, c = rng.standard_normal((3, rows))
    columns = {
        "a": a,
        "b": a + b,
        "c": c,
        "metal": (a > 0.0).astype(float),
        "magnetic": (a + b < 0.0).astype(float),
    }
    for name in ("b", "magnetic"):
        columns[name][rng.random(rows) < 0.2] = np.nan
    return table(columns, kinds={"metal": "classification", "magnetic": "classification"})


@pytest.mark.parametrize("measure", MEASURES)
def test_every_pair_uses_the_materials_that_have_both_labels(measure):
    targets = mixed_table()
    affinity = affinity_matrix(targets, measure)
    both = ~np.isnan(targets.column("b")) & ~np.isnan(targets.column("a"))
    at = affinity.names.index("a"), affinity.names.index("b")
    expected = MEASURES[measure](targets.column("a")[both], targets.column("b")[both])
    assert (affinity.values[at], affinity.p[at]) == expected
    assert affinity.n[at] == both.sum() < len(both)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_matrix_is_symmetric_bounded_and_indifferent_to_the_order_of_columns(measure):
    targets = mixed_table()
    affinity = affinity_matrix(targets, measure)
    assert np.array_equal(affinity.values, affinity.values.T)
    assert np.all(np.abs(affinity.values) <= 1.0)
    assert np.all((affinity.p >= 0.0) & (affinity.p <= 1.0))
    assert np.all(np.diag(affinity.values) == 1.0)
    shuffled = affinity_matrix(
        targets.select(["magnetic", "c", "a", "metal", "b"]), measure
    ).select(affinity.names)
    assert np.array_equal(shuffled.values, affinity.values)
    assert np.array_equal(shuffled.p, affinity.p)


def test_classes_are_compared_by_their_own_measures_with_a_sign():
    affinity = affinity_matrix(mixed_table(), "pearson")
    targets = mixed_table()
    both = ~np.isnan(targets.column("magnetic"))
    a, metal, magnetic = (targets.column(name)[both] for name in ("a", "metal", "magnetic"))
    assert affinity.value("a", "magnetic") == pytest.approx(-correlation_ratio(magnetic, a).value)
    assert affinity.value("metal", "magnetic") == pytest.approx(-cramers_v(metal, magnetic).value)
    assert affinity.value("a", "metal") > 0.0
    assert affinity_matrix(mixed_table(), "distance_correlation").value("a", "magnetic") > 0.0


def test_rank_measures_compare_classes_with_ranks():
    targets = mixed_table()
    expected = correlation_ratio(targets.column("metal"), stats.rankdata(targets.column("a")))
    assert affinity_matrix(targets, "spearman").value("a", "metal") == pytest.approx(expected.value)


def test_targets_are_compared_in_the_space_they_are_learned_in():
    x, y = normal_pair(0.7, 60)
    specs = (Target("x"), Target("y", transform="log10"))
    targets = TargetTable(specs, tuple(map(str, range(60))), np.column_stack([x, 10.0**y]))
    assert affinity_matrix(targets, "pearson").value("x", "y") == pytest.approx(
        stats.pearsonr(x, y).statistic
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_constant_empty_and_nearly_empty_columns_have_no_affinity(measure):
    x = np.arange(10.0)
    nearly = np.where(x < 2.0, x, np.nan)
    targets = table(
        {"x": x, "constant": np.ones(10), "empty": np.full(10, np.nan), "nearly": nearly}
    )
    affinity = affinity_matrix(targets, measure)
    off = ~np.eye(4, dtype=bool)
    assert np.all(np.isnan(affinity.values[off]))
    assert np.all(affinity.p[off] == 1.0)
    assert np.isnan(affinity.value("constant", "constant"))
    assert affinity.value("x", "x") == 1.0
    assert affinity.n[0, 3] == 2


def test_an_unknown_measure_is_told_the_nearest():
    with pytest.raises(GroupingError, match="did you mean 'spearman'"):
        find_measure("spaerman")


# -- the value -------------------------------------------------------------------------------------------------------


def test_json_keeps_everything_with_nan_as_null():
    values = np.array([[1.0, np.nan, 0.25], [-0.5, 1.0, 0.0], [0.1, 0.2, 1.0]])
    affinity = Affinity(("a", "b", "Å"), values, np.full((3, 3), 0.5), np.full((3, 3), 7), "tag")
    assert json.loads(affinity.to_json())["values"][0] == [1.0, None, 0.25]
    again = Affinity.from_json(affinity.to_json())
    assert (again.names, again.measure) == (affinity.names, "tag")
    for name in ("values", "p", "n"):
        assert np.array_equal(getattr(again, name), getattr(affinity, name), equal_nan=True)


@pytest.mark.parametrize(("rule", "expected"), [("mean", 0.0), ("min", -0.5), ("max", 0.5)])
def test_directed_affinities_become_symmetric_by_a_named_rule(rule, expected):
    p = np.array([[0.0, 0.2], [0.1, 0.0]])
    affinity = Affinity(("a", "b"), [[1.0, 0.5], [-0.5, 1.0]], p).symmetrised(rule)
    assert affinity.value("a", "b") == affinity.value("b", "a") == expected
    assert affinity.p[0, 1] == affinity.p[1, 0] == 0.2


def test_a_table_has_helpers_in_rows_and_affected_targets_in_columns():
    frame = Affinity(("a", "b"), [[1.0, 0.5], [-0.5, 1.0]]).frame()
    assert frame.loc["a", "b"] == 0.5
    assert (frame.index.name, frame.columns.name) == ("helper", "target")


def test_an_affinity_is_immutable():
    source = np.eye(2)
    affinity = Affinity(("a", "b"), source)
    source[0, 1] = 9.0
    assert affinity.values[0, 1] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        affinity.values[0, 1] = 1.0


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Affinity(("a", "a"), np.eye(2)), "distinct"),
        (lambda: Affinity(("a", "b"), np.eye(3)), r"must be \(2, 2\), got \(3, 3\)"),
        (lambda: Affinity(("a", "b"), np.eye(2), p=np.ones(2)), "p of an affinity"),
        (lambda: Affinity(("gap", "b"), np.eye(2)).value("gap", "gab"), "did you mean 'gap'"),
        (lambda: Affinity(("a", "b"), np.eye(2)).symmetrised("median"), "did you mean"),
        (lambda: Affinity.from_json('{"names": []}'), "needs measure"),
        (lambda: Affinity.from_json("nonsense"), "needs measure"),
    ],
)
def test_a_broken_affinity_is_refused(make, told):
    with pytest.raises(GroupingError, match=told):
        make()
