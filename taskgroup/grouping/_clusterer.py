"""The base class of every way to cut a target graph into groups."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx

from taskgroup.errors import GroupingError


@dataclass(frozen=True)
class Clusterer(ABC):
    """Turns a target graph into communities of targets.

    Subclass it, implement `communities`, and pass an instance to `cluster`; or register the class under a name as an
    entry point of the group ``taskgroup.clusterers``. `taskgroup.grouping.testing` holds the tests it should pass.

    Args:
        resolution: larger means more and smaller groups, for methods that have such a setting.
        k: the number of groups for methods that can be told one (None: the k of best modularity); the size of the
            cliques for ``k_clique``.
        seed: for methods with chance in them.
    """

    resolution: float = 1.0
    k: int | None = None
    seed: int = 0

    takes_k: ClassVar[bool] = False
    """Whether k, where given, is the number of groups that come out."""

    reads_edges: ClassVar[bool] = True
    """Whether the groups depend on the edges of the graph; False for baselines such as "every target alone"."""

    def __post_init__(self) -> None:
        if not self.resolution > 0.0:
            raise GroupingError(f"resolution must be positive, but got {self.resolution}.")
        if self.k is not None and self.k < 1:
            raise GroupingError(f"k must be at least 1, but got {self.k}.")

    @abstractmethod
    def communities(self, graph: nx.Graph) -> Iterable[set[int]]:
        """Return sets of nodes that belong together; they may overlap, and nodes in none of them stay alone.

        graph: nodes are 0 ... T-1 in the order of the targets' names (so that no answer hangs on names or on the order
        of columns); every edge has a positive ``weight``, signs having been dealt with before.
        """


def modularity(graph: nx.Graph, parts: Iterable[set[int]], resolution: float = 1.0) -> float:
    """Return the weighted modularity of a partition, doi:10.1103/PhysRevE.69.026113; 0 for a graph without edges."""
    if graph.number_of_edges() == 0:
        return 0.0
    return nx.community.modularity(graph, list(parts), weight="weight", resolution=resolution)


def best_by_modularity(
    graph: nx.Graph, candidates: Iterable[list[set[int]]], resolution: float
) -> list[set[int]]:
    """Return the partition of highest modularity; of equals (to rounding) the first in canonical order."""

    def rank(parts: list[set[int]]) -> tuple[float, list[list[int]]]:
        return -round(modularity(graph, parts, resolution), 12), sorted(map(sorted, parts))

    return min(candidates, key=rank)
