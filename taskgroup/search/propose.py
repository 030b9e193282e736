"""From the clustering settings of a trial to its grouping."""

from functools import cache

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.datasets import TargetTable
from taskgroup.grouping import Grouping, cluster, target_graph
from taskgroup.search.space import GroupingSettings


class Proposer:
    """Makes groupings out of clustering settings, on the labels of training rows only.

    Besides the clusterers of taskgroup.grouping there are three methods that baselines use: ``singles`` (every target
    alone), ``together`` (all in one network) and ``random`` (as many groups as ``default`` makes, dealt at random).
    """

    def __init__(self, table: TargetTable, default: GroupingSettings) -> None:
        self.targets = tuple(sorted(table.names))
        self._table = table
        self._default = default
        self.affinity = cache(self._affinity)

    def grouping(self, settings: GroupingSettings) -> Grouping:
        """The grouping of these settings."""
        if settings.method == "singles":
            return Grouping.singles(self.targets)
        if settings.method == "together":
            return Grouping.together(self.targets)
        if settings.method == "random":
            k = settings.k or len(self.grouping(self._default))
            return Grouping.random(self.targets, k, settings.seed)
        graph = target_graph(
            self.affinity(settings.affinity),
            sparsifier=settings.sparsifier,
            alpha=settings.alpha,
            threshold=settings.threshold,
        )
        k = None if settings.k is None else min(settings.k, len(self.targets))
        return cluster(graph, method=settings.method, resolution=settings.resolution, k=k, seed=settings.seed)

    def _affinity(self, measure: str) -> Affinity:
        return affinity_matrix(self._table, measure=measure)
