"""Clusterings: the conformance tests for each, known values, signs, overlaps, and no hang on 200 targets."""

import os
import subprocess
import sys

import networkx as nx
import pytest

from taskgroup.errors import GroupingError
from taskgroup.grouping import CLUSTERERS, Clusterer, Grouping, cluster, find_clusterer
from taskgroup.grouping.testing import ClustererConformance, noisy, two_blocks


class TestLouvain(ClustererConformance):
    clusterer = CLUSTERERS["louvain"]


class TestGreedyModularity(ClustererConformance):
    clusterer = CLUSTERERS["greedy_modularity"]


class TestSpectral(ClustererConformance):
    clusterer = CLUSTERERS["spectral"]


class TestHierarchical(ClustererConformance):
    clusterer = CLUSTERERS["hierarchical"]


class TestLabelPropagation(ClustererConformance):
    clusterer = CLUSTERERS["label_propagation"]


class TestConnectedComponents(ClustererConformance):
    clusterer = CLUSTERERS["connected_components"]


class TestKClique(ClustererConformance):
    clusterer = CLUSTERERS["k_clique"]


class TestConflictColouring(ClustererConformance):
    clusterer = CLUSTERERS["colouring"]


class TestSingles(ClustererConformance):
    clusterer = CLUSTERERS["singles"]


class TestTogether(ClustererConformance):
    clusterer = CLUSTERERS["together"]


class TestRandom(ClustererConformance):
    clusterer = CLUSTERERS["random"]


def test_every_clusterer_is_tested():
    tested = {case.clusterer for case in ClustererConformance.__subclasses__()}
    assert tested == {CLUSTERERS[name] for name in CLUSTERERS.builtin_names}


# -- baselines -------------------------------------------------------------------------------------------------------


def test_the_baselines_are_the_groupings_of_the_same_names():
    graph = noisy(7)
    assert cluster(graph, "singles") == Grouping.singles(graph)
    assert cluster(graph, "together") == Grouping.together(graph)
    for seed in range(5):
        expected = Grouping.random(graph, k=3, seed=seed)
        assert cluster(graph, "random", k=3, seed=seed) == expected


def test_random_groups_differ_between_seeds():
    graph = noisy(9)
    ids = {cluster(graph, "random", k=3, seed=seed).grouping_id for seed in range(10)}
    assert len(ids) > 5


def test_random_makes_as_many_groups_as_louvain_unless_told():
    graph = two_blocks(between=0.05)
    assert len(cluster(graph, "louvain")) == 2
    sizes = [sorted(map(len, cluster(graph, "random", seed=seed).groups)) for seed in range(5)]
    assert sizes == [[3, 4]] * 5


# -- known values ----------------------------------------------------------------------------------------------------


@pytest.fixture
def karate():
    """Zachary's club without weights, its members named."""
    club = nx.karate_club_graph()
    graph = nx.Graph([(f"{a:02}", f"{b:02}") for a, b in club.edges()])
    assert (len(graph), graph.number_of_edges()) == (34, 78)
    return graph


@pytest.mark.parametrize(
    ("method", "expected"), [("louvain", 0.41979), ("greedy_modularity", 0.380671)]
)
def test_the_karate_club_is_cut_with_its_known_modularity(karate, method, expected):
    grouping = cluster(karate, method)
    q = nx.community.modularity(karate, [set(group.targets) for group in grouping.groups])
    assert q == pytest.approx(expected, abs=1e-5)


def test_hierarchical_clustering_agrees_with_sklearn(karate):
    from sklearn.cluster import AgglomerativeClustering

    graph = noisy(12, seed=3)
    distance = 1.0 - abs(nx.to_numpy_array(graph)) / abs(nx.to_numpy_array(graph)).max()
    for k in (2, 3, 5):
        labels = AgglomerativeClustering(k, metric="precomputed", linkage="average").fit_predict(
            distance
        )
        parts = [
            [name for name, own in zip(graph, labels, strict=True) if own == label]
            for label in range(k)
        ]
        assert cluster(graph, "hierarchical", k=k) == Grouping.from_partition(parts)


def test_higher_resolution_makes_more_groups():
    graph = two_blocks(between=0.2)
    counts = [
        len(cluster(graph, "louvain", resolution=resolution)) for resolution in (0.1, 1.0, 5.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[2] > counts[1]


# -- signs -----------------------------------------------------------------------------------------------------------


def test_signs_are_ignored_or_cut_as_told():
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", -0.9), ("c", "d", 0.9), ("b", "c", -0.1)])
    assert str(cluster(graph, "connected_components")) == "{a, b, c, d}"
    assert str(cluster(graph, "louvain")) == "{a, b} | {c, d}"
    assert str(cluster(graph, "louvain", sign="positive")) == "{a} | {b} | {c, d}"
    assert str(cluster(graph, "colouring", sign="positive")) == "{a} | {b} | {c, d}"


@pytest.mark.parametrize("method", CLUSTERERS)
def test_clusterers_never_see_a_negative_weight(method, monkeypatch):
    seen = []
    original = CLUSTERERS[method].communities

    def watched(self, graph):
        seen.extend(weight for _, _, weight in graph.edges(data="weight"))
        return original(self, graph)

    monkeypatch.setattr(CLUSTERERS[method], "communities", watched)
    for sign in ("absolute", "positive"):
        cluster(noisy(8, share=0.7), method, sign=sign)
    assert seen
    assert min(seen) > 0.0


# -- overlaps --------------------------------------------------------------------------------------------------------


def test_overlapping_cliques_give_helpers():
    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 0.9), ("a", "x", 0.9), ("b", "x", 0.9)])
    graph.add_weighted_edges_from(
        [("c", "d", 0.5), ("c", "x", 0.5), ("d", "x", -0.5), ("alone", "a", 0.1)]
    )
    grouping = cluster(graph, "k_clique")
    assert str(grouping) == "{a, b, x} | {alone} | {c, d + x}"
    assert not grouping.is_partition


def test_a_community_that_would_serve_nobody_is_left_out():
    class Covers(Clusterer):
        def communities(self, graph):
            return [{0, 1, 2}, {0, 1}, {1, 2}]

    graph = nx.Graph()
    graph.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 0.5)])
    assert str(cluster(graph, Covers())) == "{a, b} | {c + b}"


def test_groups_of_a_colouring_are_cliques():
    graph = noisy(30, share=0.5)
    for group in cluster(graph, "colouring").groups:
        assert all(graph.has_edge(a, b) for a in group.targets for b in group.targets if a < b)


# -- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: cluster(two_blocks(), "luvain"), "did you mean 'louvain'"),
        (lambda: cluster(two_blocks(), sign="negative"), "sign rule 'negative'"),
        (lambda: cluster(nx.Graph()), "at least one target"),
        (lambda: cluster(nx.DiGraph([("a", "b")])), "undirected"),
        (
            lambda: cluster(nx.Graph([("a", "b", {"weight": float("nan")})])),
            "between a and b got nan",
        ),
        (lambda: cluster(two_blocks(), "k_clique", k=1), "at least 2"),
        (lambda: cluster(noisy(60, share=0.8), "k_clique"), "choose a stricter sparsifier"),
    ],
)
def test_bad_requests_are_refused(make, told):
    with pytest.raises(GroupingError, match=told):
        make()


@pytest.mark.parametrize("method", sorted(set(CLUSTERERS) - {"k_clique"}))
def test_two_hundred_targets_do_not_hang(method):
    graph = noisy(200, share=0.2)
    assert cluster(graph, method).targets == tuple(sorted(graph))


def test_the_answer_does_not_hang_on_the_hashing_of_names():
    code = (
        "from taskgroup.grouping import *; from taskgroup.grouping.testing import noisy; "
        "print([cluster(noisy(14, share=0.5), m).grouping_id for m in CLUSTERERS])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
    assert there == str(
        [cluster(noisy(14, share=0.5), method).grouping_id for method in CLUSTERERS]
    )


def test_clusterers_of_other_packages_are_found(monkeypatch):
    class Point:
        name = "pairs"

        def load(self):
            return CLUSTERERS["louvain"]

    # The registry has read the installed entry points already; it keeps them in this cached property.
    monkeypatch.setitem(vars(CLUSTERERS), "_plugins", {"pairs": Point()})
    assert find_clusterer("pairs") is CLUSTERERS["louvain"]
