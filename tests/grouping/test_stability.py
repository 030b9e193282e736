"""Stability: what resampling, consensus and agreement say where the answer is known."""

import numpy as np
import pytest

from taskgroup.affinity import MEASURES
from taskgroup.datasets import Target, TargetTable
from taskgroup.errors import GroupingError
from taskgroup.grouping import Grouping, Stability, agreement, cluster, resample, target_graph


def two_causes(rows=80, seed=0, noise=0.3):
    """Three targets of one cause, two of another, one of none."""
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((2, rows))
    causes = np.column_stack([one, one, one, other, other, np.zeros(rows)])
    values = causes + rng.standard_normal(causes.shape) * np.array([noise] * 5 + [1.0])
    return TargetTable(
        tuple(map(Target, ["a1", "a2", "a3", "b1", "b2", "c"])),
        tuple(map(str, range(rows))),
        values,
    )


def by_correlation(table):
    return cluster(target_graph(table, sparsifier="threshold", threshold=0.5))


TRUTH = Grouping.from_partition([["a1", "a2", "a3"], ["b1", "b2"], ["c"]])


def test_groups_with_a_cause_are_stable():
    stability = resample(two_causes(), by_correlation, draws=20)
    assert stability.consensus() == TRUTH
    assert [stability.of_group(group) for group in TRUTH.groups] == [1.0, 1.0, 1.0]
    assert stability.share("a1", "b1") == 0.0


def test_groups_of_noise_are_not_stable():
    rng = np.random.default_rng(0)
    table = TargetTable(
        two_causes().specs, tuple(map(str, range(30))), rng.standard_normal((30, 6))
    )

    def connected(part):
        return cluster(target_graph(part, sparsifier="mst"))

    stability = resample(table, connected, draws=40)
    shares = [stability.of_group(group) for group in connected(table).groups]
    assert max(shares) < 1.0
    assert len(set(stability.groupings)) > 5


def test_draws_hold_63_percent_of_the_rows_none_twice():
    table, seen = two_causes(), []

    def watch(part):
        seen.append(part.ids)
        return TRUTH

    resample(table, watch, draws=5)
    assert [len(ids) for ids in seen] == [51] * 5
    assert all(len(set(ids)) == 51 for ids in seen)
    assert len(set(seen)) == 5


def test_the_same_seed_gives_the_same_shares():
    one, again, other = (
        resample(two_causes(noise=1.0), by_correlation, draws=15, seed=seed) for seed in (3, 3, 4)
    )
    assert np.array_equal(one.together, again.together)
    assert not np.array_equal(one.together, other.together)


def test_the_order_of_columns_does_not_matter():
    table = two_causes(noise=1.0)
    shuffled = table.select(["c", "b2", "a3", "a1", "b1", "a2"])
    one, other = (resample(part, by_correlation, draws=15) for part in (table, shuffled))
    assert np.array_equal(one.together, other.together)


def test_shares_are_counts():
    groupings = [
        Grouping.from_partition(parts)
        for parts in (
            [["a", "b"], ["c"]],
            [["a", "b", "c"]],
            [["a"], ["b", "c"]],
            [["a"], ["b"], ["c"]],
        )
    ]
    stability = Stability.of(groupings)
    assert stability.names == ("a", "b", "c")
    assert stability.together == pytest.approx(
        np.array([[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]])
    )
    assert stability.of_group(Grouping.singles(["c"]).groups[0]) == 0.5
    assert stability.frame().loc["a", "c"] == 0.25


def test_consensus_needs_the_majority_asked_for():
    together, apart = Grouping.together(["a", "b"]), Grouping.singles(["a", "b"])
    stability = Stability.of([together] * 6 + [apart] * 4)
    assert stability.consensus() == together
    assert stability.consensus(least=0.6) == together
    assert stability.consensus(least=0.7) == apart
    assert Stability.of([Grouping.singles(["a"])]).consensus() == Grouping.singles(["a"])


def test_edges_of_a_graph_learn_their_stability():
    table = two_causes()
    graph = target_graph(table, sparsifier="none")
    stability = resample(table, by_correlation, draws=10)
    marked = stability.on(graph)
    assert marked.edges["a1", "a2"]["stability"] == 1.0
    assert marked.edges["a1", "c"]["stability"] == 0.0
    assert "stability" not in graph.edges["a1", "a2"]


def test_measures_agree_where_there_is_a_cause():
    table = two_causes()
    groupings = {
        name: cluster(target_graph(table, name, sparsifier="knn", k=2)) for name in MEASURES
    }
    frame = agreement(groupings)
    assert list(frame.index) == list(MEASURES)
    assert np.allclose(np.diag(frame), 1.0)
    assert np.allclose(frame, frame.T)
    assert frame.loc["pearson", "spearman"] == 1.0
    assert agreement({"x": TRUTH, "y": Grouping.singles(TRUTH.targets)}).loc[
        "x", "y"
    ] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Stability.of([]), "at least one grouping"),
        (lambda: Stability.of([TRUTH, Grouping.singles(["a1"])]), "same targets"),
        (lambda: Stability.of([TRUTH]).consensus(0.0), "least must lie above 0"),
        (lambda: resample(two_causes(), by_correlation, draws=0), "draws must be at least 1"),
    ],
)
def test_bad_requests_are_refused(make, told):
    with pytest.raises(GroupingError, match=told):
        make()
