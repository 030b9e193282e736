"""A way to cut the target graph."""

from collections.abc import Iterable

import networkx as nx

from taskgroup.grouping import Clusterer


class StrongerThanMean(Clusterer):
    """Drops edges weaker than half the mean weight; what still hangs together is a group."""

    def communities(self, graph: nx.Graph) -> Iterable[set[int]]:
        """Return the connected components of the graph without its weak edges."""
        weights = [weight for _, _, weight in graph.edges(data="weight")]
        if not weights:
            return []
        limit = 0.5 * sum(weights) / len(weights)
        strong = nx.Graph()
        for first, second, weight in graph.edges(data="weight"):
            if weight >= limit:
                strong.add_edge(first, second)
        return nx.connected_components(strong)
