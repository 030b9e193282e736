"""Target graphs: which edges each sparsifier keeps, what they carry, and that the order of columns does not matter."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.datasets import Target, TargetTable
from taskgroup.errors import GroupingError
from taskgroup.grouping import CLUSTERERS, SPARSIFIERS, cluster, target_graph


def table_of(values, names=None):
    names = names or [f"t{i}" for i in range(values.shape[1])]
    return TargetTable(tuple(map(Target, names)), tuple(map(str, range(len(values)))), values)


def factors(rows=60, targets=8, common=2, seed=0, missing=0.1):
    """A table whose columns share a few factors, some labels missing."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, common)) @ rng.standard_normal((common, targets))
    values += rng.standard_normal((rows, targets))
    values[rng.random(values.shape) < missing] = np.nan
    return table_of(values)


def affinity_of(strengths, names="abcdef", **more):
    """A symmetric affinity from {"ab": 0.5, ...}."""
    values = np.full((len(names), len(names)), np.nan)
    for (a, b), weight in strengths.items():
        i, j = names.index(a), names.index(b)
        values[i, j] = values[j, i] = weight
    return Affinity(tuple(names), values, **more)


def edges(graph):
    return {a + b for a, b in graph.edges()}


STRENGTHS = {"ab": 0.9, "ac": -0.8, "bc": 0.1, "cd": 0.3, "de": -0.6, "ad": 0.05}


@pytest.mark.parametrize(
    ("sparsifier", "settings", "kept"),
    [
        ("none", {}, {"ab", "ac", "bc", "cd", "de", "ad"}),
        ("threshold", {"threshold": 0.3}, {"ab", "ac", "cd", "de"}),
        ("knn", {"k": 1}, {"ab", "de"}),
        ("knn", {"k": 2}, {"ab", "ac", "cd", "de"}),
        ("mst", {}, {"ab", "ac", "cd", "de"}),
        ("soft", {}, {"ab", "ac", "bc", "cd", "de", "ad"}),
    ],
)
def test_sparsifiers_keep_the_edges_they_should(sparsifier, settings, kept):
    graph = target_graph(affinity_of(STRENGTHS), sparsifier=sparsifier, **settings)
    assert edges(graph) == kept
    assert list(graph) == list("abcdef")


def test_edges_carry_signed_weight_n_p_and_q():
    targets = factors()
    affinity = affinity_matrix(targets, "pearson")
    graph = target_graph(targets, "pearson", sparsifier="none")
    for a, b, data in graph.edges(data=True):
        at = affinity.names.index(a), affinity.names.index(b)
        assert set(data) == {"weight", "n", "p", "q"}
        assert data["weight"] == affinity.values[at]
        assert data["n"] == affinity.n[at]
        assert data["p"] == affinity.p[at]
    assert graph.graph == {"measure": "pearson", "sparsifier": "none"}


def test_q_is_p_adjusted_as_benjamini_and_hochberg_do():
    graph = target_graph(factors(), sparsifier="none")
    p = np.array([p for _, _, p in graph.edges(data="p")])
    order = np.argsort(p)
    by_hand = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    q = np.array([q for _, _, q in graph.edges(data="q")])
    assert q[order] == pytest.approx(by_hand)


@given(st.floats(0.001, 0.5))
@settings(max_examples=20, deadline=None)
def test_the_fdr_graph_holds_exactly_the_pairs_with_small_q(alpha):
    targets = factors(rows=30)
    everything = target_graph(targets, sparsifier="none")
    expected = {frozenset(ends) for *ends, q in everything.edges(data="q") if q <= alpha}
    assert {frozenset(ends) for ends in target_graph(targets, alpha=alpha).edges()} == expected


def test_false_discoveries_among_unrelated_targets_are_rare():
    rng = np.random.default_rng(1)
    with_edges = sum(
        target_graph(table_of(rng.standard_normal((40, 8)))).number_of_edges() > 0
        for _ in range(60)
    )
    assert with_edges <= 8  # 5 % expected, three standard errors above


def test_soft_thresholds_raise_the_strength_and_keep_the_sign():
    graph = target_graph(affinity_of(STRENGTHS), sparsifier="soft", beta=3.0)
    for pair, weight in STRENGTHS.items():
        assert graph.edges[pair[0], pair[1]]["weight"] == pytest.approx(
            np.sign(weight) * abs(weight) ** 3
        )


def test_the_tree_agrees_with_networkx():
    targets = factors(targets=12, missing=0.0)
    everything = nx.Graph()
    everything.add_weighted_edges_from(
        (a, b, abs(weight))
        for a, b, weight in target_graph(targets, sparsifier="none").edges(data="weight")
    )
    expected = {frozenset(ends) for ends in nx.maximum_spanning_tree(everything).edges()}
    assert {frozenset(ends) for ends in target_graph(targets, sparsifier="mst").edges()} == expected


def test_each_neighbour_is_among_the_k_strongest_of_the_other():
    targets = factors(targets=10)
    everything = target_graph(targets, sparsifier="none")

    def nearest(node, k):
        by_strength = sorted(everything[node].items(), key=lambda item: -abs(item[1]["weight"]))
        return {name for name, _ in by_strength[:k]}

    for k in (1, 2, 4):
        expected = {
            frozenset((a, b))
            for a, b in everything.edges()
            if b in nearest(a, k) and a in nearest(b, k)
        }
        assert {
            frozenset(ends) for ends in target_graph(targets, sparsifier="knn", k=k).edges()
        } == expected


@pytest.mark.parametrize("targets", [3, 4, 5, 12, 40])
def test_planar_graphs_are_planar_and_full(targets):
    graph = target_graph(factors(targets=targets, missing=0.0), sparsifier="planar")
    assert nx.check_planarity(graph)[0]
    assert graph.number_of_edges() == 3 * targets - 6
    tree = target_graph(factors(targets=targets, missing=0.0), sparsifier="mst")
    strength = sum(abs(weight) for _, _, weight in graph.edges(data="weight"))
    assert strength > sum(abs(weight) for _, _, weight in tree.edges(data="weight")) or targets == 3


def test_partial_correlations_drop_what_a_third_target_explains():
    rng = np.random.default_rng(0)
    cause, *noise = rng.standard_normal((4, 400))
    values = np.column_stack([cause, *(cause + 0.7 * error for error in noise)])
    targets = table_of(values, ["cause", "x", "y", "z"])
    assert target_graph(targets, "pearson").number_of_edges() == 6
    graph = target_graph(targets, "pearson", sparsifier="partial")
    assert {frozenset(ends) for ends in graph.edges()} == {
        frozenset(("cause", name)) for name in "xyz"
    }


def test_partial_correlation_is_that_of_the_residuals():
    targets = factors(rows=200, targets=3, missing=0.0)
    a, b, c = targets.values.T
    residuals = [values - linregress(c, values).slope * c for values in (a, b)]
    graph = target_graph(targets, "pearson", sparsifier="partial", alpha=0.999999)
    assert graph.edges["t0", "t1"]["weight"] == pytest.approx(np.corrcoef(*residuals)[0, 1])


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(8)), seed=st.integers(0, 5))
def test_the_order_of_columns_does_not_matter(sparsifier, order, seed):
    targets = factors(seed=seed)
    shuffled = targets.select([targets.names[i] for i in order])
    one, other = (target_graph(table, sparsifier=sparsifier) for table in (targets, shuffled))
    assert list(one) == list(other)
    assert list(one.edges(data=True)) == list(other.edges(data=True))


@pytest.mark.parametrize("method", CLUSTERERS)
def test_groupings_of_a_table_do_not_depend_on_the_order_of_columns(method):
    for seed in range(4):
        targets = factors(seed=seed)
        expected = cluster(target_graph(targets, sparsifier="knn"), method, seed=seed)
        for order in range(4):
            names = np.random.default_rng(order).permutation(targets.names).tolist()
            graph = target_graph(targets.select(names), sparsifier="knn")
            assert cluster(graph, method, seed=seed) == expected


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
def test_constant_and_empty_columns_become_lonely_nodes(sparsifier):
    values = factors(missing=0.0).values.copy()
    values[:, 0] = 1.0
    values[:, 1] = np.nan
    graph = target_graph(table_of(values), sparsifier=sparsifier)
    assert graph.degree("t0") == graph.degree("t1") == 0
    assert all(np.isfinite(weight) for *_, weight in graph.edges(data="weight"))


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("targets", [1, 2])
def test_one_and_two_targets_are_no_trouble(sparsifier, targets):
    assert len(target_graph(factors(targets=targets), sparsifier=sparsifier)) == targets


def test_directed_affinities_are_made_symmetric_by_the_rule_named():
    directed = Affinity(("a", "b"), [[1.0, 0.8], [-0.2, 1.0]], measure="tag")
    weights = {
        rule: target_graph(directed, sparsifier="none", symmetrise=rule).edges["a", "b"]["weight"]
        for rule in ("mean", "min", "max")
    }
    assert weights == pytest.approx({"mean": 0.3, "min": -0.2, "max": 0.8})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sparsifier": "treshold"}, "did you mean 'threshold'"),
        ({"measure": "spaerman"}, "did you mean 'spearman'"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1, but got 0.0"),
        ({"threshold": float("nan")}, "threshold must not be negative, but got nan"),
        ({"k": 0}, "at least 1"),
        ({"beta": -1.0}, "beta must be positive"),
        ({"measure": "kendall", "sparsifier": "partial"}, "needs pearson or spearman"),
        (
            {"table": Affinity(("a", "b"), np.eye(2), measure="tag")},
            "needs p-values, which 'tag' has not",
        ),
        (
            {"table": factors(rows=8), "sparsifier": "partial"},
            "needs more materials a pair than targets",
        ),
    ],
)
def test_bad_requests_are_refused(settings, told):
    with pytest.raises(GroupingError, match=told):
        target_graph(**{"table": factors(), **settings})


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
def test_two_hundred_targets_do_not_hang(sparsifier):
    values = np.random.default_rng(0).standard_normal((300, 200))
    measured = Affinity(
        tuple(f"t{i}" for i in range(200)), np.corrcoef(values.T), *_tests(200), measure="pearson"
    )
    assert len(target_graph(measured, sparsifier=sparsifier)) == 200


def _tests(targets):
    return np.random.default_rng(0).random((targets, targets)), np.full((targets, targets), 300)
