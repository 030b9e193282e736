"""Clusterings by who is connected with whom."""

from itertools import islice

import networkx as nx

from taskgroup.errors import GroupingError
from taskgroup.grouping._clusterer import Clusterer

# A dense graph has exponentially many maximal cliques.
_MOST_CLIQUES = 5000


class ConnectedComponents(Clusterer):
    """Connected components: targets that a path of edges connects."""

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        return list(nx.connected_components(graph))


class LabelPropagation(Clusterer):
    """Every target takes over the label that weighs most around it, in random order, until none changes.

    Raghavan, Albert and Kumara 2007, doi:10.1103/PhysRevE.76.036106.
    """

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        parts = nx.community.asyn_lpa_communities(graph, weight="weight", seed=self.seed)
        return [set(part) for part in parts]


class KClique(Clusterer):
    """Overlapping groups: cliques of k targets (3 unless told) joined where they share k - 1 of them.

    Palla et al. 2005, doi:10.1038/nature03607. It wants a sparse graph: GroupingError beyond 5,000 maximal cliques.
    """

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        size = 3 if self.k is None else self.k
        if size < 2:
            raise GroupingError(
                f"k of k_clique is the size of its cliques and must be at least 2, but got {size}."
            )
        cliques = list(islice(nx.find_cliques(graph), _MOST_CLIQUES + 1))
        if len(cliques) > _MOST_CLIQUES:
            raise GroupingError(
                f"k_clique can take {_MOST_CLIQUES} maximal cliques, but the graph of {len(graph)} targets has more; "
                "choose a stricter sparsifier."
            )
        parts = nx.community.k_clique_communities(graph, size, cliques=cliques)
        return [set(part) for part in parts]


class ConflictColouring(Clusterer):
    """Groups without conflict: targets that no edge joins are never together, so every group is a clique.

    Which edges there are is up to the sparsifier and the sign rule: with ``sign="positive"`` negative relations
    conflict as weak ones do. A greedy colouring of the conflict graph, most constrained targets first (Brélaz 1979,
    doi:10.1145/359094.359101).
    """

    def communities(self, graph: nx.Graph) -> list[set[int]]:
        colours = nx.greedy_color(nx.complement(graph), strategy="saturation_largest_first")
        groups: dict[int, set[int]] = {}
        for node in graph:
            groups.setdefault(colours[node], set()).add(node)
        return [groups[colour] for colour in sorted(groups)]
