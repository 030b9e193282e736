"""What is expected of a clusterer: subclass `ClustererConformance`, name the class, and let pytest run it.

class TestMine(ClustererConformance):
    clusterer = MyClusterer
"""

import random

import networkx as nx
import numpy as np
import pytest

from taskgroup.errors import GroupingError
from taskgroup.grouping._clusterer import Clusterer
from taskgroup.grouping.cluster import cluster

_BLOCKS = (("bandwidth", "gap", "is_metal"), ("density", "mass", "modulus", "volume"))


def two_blocks(between: float = 0.0, seed: int = 0) -> nx.Graph:
    """Seven targets in two obvious groups: weights of either sign about 0.8 inside, `between` across them."""
    rng = np.random.default_rng(seed)
    graph = nx.Graph()
    names = [name for block in _BLOCKS for name in block]
    graph.add_nodes_from(names)
    for place, a in enumerate(names):
        for b in names[:place]:
            inside = any(a in block and b in block for block in _BLOCKS)
            weight = rng.choice([-1.0, 1.0]) * rng.uniform(0.75, 0.85) if inside else between
            if weight:
                graph.add_edge(a, b, weight=weight)
    return graph


def noisy(targets: int, seed: int = 0, share: float = 1.0) -> nx.Graph:
    """Targets with weights drawn between -1 and 1 on a share of the pairs."""
    rng = np.random.default_rng(seed)
    graph = nx.Graph()
    graph.add_nodes_from(f"t{i:03}" for i in range(targets))
    graph.add_weighted_edges_from(
        (a, b, rng.uniform(-1.0, 1.0))
        for a in graph
        for b in graph
        if a < b and rng.random() < share
    )
    return graph


def shuffled(graph: nx.Graph, seed: int) -> nx.Graph:
    """The same graph with nodes and edges put in, and edges turned round, in another order."""
    rng = random.Random(seed)
    nodes, edges = (
        list(graph),
        [(*rng.sample((a, b), 2), data) for a, b, data in graph.edges(data=True)],
    )
    rng.shuffle(nodes)
    rng.shuffle(edges)
    other = nx.Graph()
    other.add_nodes_from(nodes)
    other.add_edges_from(edges)
    return other


class ClustererConformance:
    """Rules that every clusterer keeps."""

    clusterer: type[Clusterer]

    def _skip_unless_edges_are_read(self) -> None:
        if not self.clusterer.reads_edges:
            pytest.skip("this clusterer does not read the edges of the graph")

    @pytest.mark.parametrize("targets", [1, 2, 3, 12])
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_every_target_is_served(self, targets: int, share: float) -> None:
        graph = noisy(targets, share=share)
        assert cluster(graph, self.clusterer()).targets == tuple(sorted(graph))

    def test_two_obvious_groups_are_found(self) -> None:
        self._skip_unless_edges_are_read()
        grouping = cluster(two_blocks(), self.clusterer())
        assert {group.targets for group in grouping.groups} == set(_BLOCKS)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_order_of_targets_and_edges_does_not_matter(self, seed: int) -> None:
        graph = noisy(9, seed=seed, share=0.6)
        expected = cluster(graph, self.clusterer(seed=seed))
        for order in range(5):
            assert cluster(shuffled(graph, order), self.clusterer(seed=seed)) == expected

    def test_targets_without_an_edge_stay_alone(self) -> None:
        self._skip_unless_edges_are_read()
        graph = two_blocks()
        graph.add_nodes_from(["lonely", "lost"])
        grouping = cluster(graph, self.clusterer())
        assert grouping.serving("lonely").targets == ("lonely",)
        assert grouping.serving("lost").targets == ("lost",)

    def test_without_any_edge_all_stay_alone(self) -> None:
        self._skip_unless_edges_are_read()
        assert len(cluster(noisy(6, share=0.0), self.clusterer())) == 6

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_the_scale_of_the_weights_does_not_matter(self, scale: float) -> None:
        graph = two_blocks(between=0.05)
        scaled = graph.copy()
        for _, _, data in scaled.edges(data=True):
            data["weight"] *= scale
        assert cluster(scaled, self.clusterer()) == cluster(graph, self.clusterer())

    def test_as_many_groups_come_out_as_were_asked_for(self) -> None:
        if not self.clusterer.takes_k:
            return
        graph = noisy(8, share=0.8)
        assert [len(cluster(graph, self.clusterer(k=k))) for k in range(1, 9)] == list(range(1, 9))
        with pytest.raises(GroupingError, match="must not exceed the number of targets"):
            cluster(graph, self.clusterer(k=9))

    def test_settings_out_of_range_are_refused(self) -> None:
        with pytest.raises(GroupingError, match="resolution must be positive"):
            self.clusterer(resolution=0.0)
        with pytest.raises(GroupingError, match="k must be at least 1"):
            self.clusterer(k=0)
