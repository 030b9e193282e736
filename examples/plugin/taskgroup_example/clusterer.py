"""A way to cut the target graph."""

from collections.abc import Iterable

import networkx as nx

from taskgroup.grouping import Clusterer


class StrongestPairs(Clusterer):
    """Joins the two targets with the strongest edge, then the strongest pair among the rest, and so on."""

    def communities(self, graph: nx.Graph) -> Iterable[set[int]]:
        """Return the pairs; targets that find no partner stay alone."""
        edges = sorted(graph.edges(data="weight"), key=lambda edge: (-edge[2], edge[0], edge[1]))
        free = set(graph)
        pairs = []
        for first, second, _ in edges:
            if first in free and second in free:
                pairs.append({first, second})
                free -= {first, second}
        return pairs
