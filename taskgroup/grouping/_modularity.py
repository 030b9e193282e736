"""Clusterings by modularity: more weight inside groups than chance would put there."""

import networkx as nx

from taskgroup.grouping._clusterer import Clusterer, best_by_modularity

_STARTS = 10


class Louvain(Clusterer):
    """Louvain's method, the best of ten seeded starts (Blondel et al. 2008, doi:10.1088/1742-5468/2008/10/P10008)."""

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        starts = (
            nx.community.louvain_communities(
                graph, weight="weight", resolution=self.resolution, seed=start
            )
            for start in range(self.seed * _STARTS, (self.seed + 1) * _STARTS)
        )
        return best_by_modularity(graph, starts, self.resolution)


class GreedyModularity(Clusterer):
    """The two groups that gain most modularity merge, until no merger gains.

    Clauset, Newman and Moore 2004, doi:10.1103/PhysRevE.70.066111.
    """

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        if graph.number_of_edges() == 0:
            return []
        found = nx.community.greedy_modularity_communities(
            graph, weight="weight", resolution=self.resolution
        )
        return [set(part) for part in found]
