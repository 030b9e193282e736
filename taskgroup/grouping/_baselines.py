"""Groupings that ignore the edges of the target graph: the baselines that every clustering is measured against."""

import networkx as nx
import numpy as np

from taskgroup.errors import GroupingError
from taskgroup.grouping._clusterer import Clusterer
from taskgroup.grouping._modularity import Louvain


class Singles(Clusterer):
    """Every target alone."""

    reads_edges = False

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        return [{node} for node in graph]


class Together(Clusterer):
    """All targets in one group."""

    reads_edges = False

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        return [set(graph)]


class Random(Clusterer):
    """k groups dealt at random, whose sizes differ by at most one.

    Without k there are as many groups as Louvain's method finds in the graph, so that the comparison with it is fair.
    The groups are those of `Grouping.random` with the same seed.
    """

    reads_edges = False
    takes_k = True

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        n_groups = self.k
        if n_groups is None:
            n_groups = _louvain_count(graph, self.resolution)
        if n_groups > len(graph):
            raise GroupingError(
                f"k must not exceed the number of targets ({len(graph)}), but got {n_groups}."
            )
        dealt = np.random.default_rng(self.seed).permutation(len(graph)).tolist()
        return [set(dealt[start::n_groups]) for start in range(n_groups)]


def _louvain_count(graph: nx.Graph, resolution: float) -> int:
    # The seed of Louvain is fixed: only the deal, not the number of groups, may depend on the seed of Random.
    return len(Louvain(resolution=resolution, seed=0).communities(graph))
