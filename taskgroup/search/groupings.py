"""From the clustering settings of a trial to its grouping."""

from collections.abc import Callable, Sequence

from taskgroup.affinity import Affinity
from taskgroup.grouping import Grouping, cluster, target_graph
from taskgroup.spec.space import MEASURED_IN_TRAINING, GroupingSettings


class GroupingBuilder:
    """Makes groupings of ``targets`` out of clustering settings; ``affinity_of`` gives the affinity of a name.

    Besides the clusterers of taskgroup.grouping there are three methods that baselines use: ``singles`` (every target
    alone), ``together`` (all in one network) and ``random`` (as many groups as ``default`` makes, dealt at random).
    """

    def __init__(
        self,
        targets: Sequence[str],
        default: GroupingSettings,
        affinity_of: Callable[[str], Affinity],
    ) -> None:
        self.targets = tuple(sorted(targets))
        self._default = default
        self._affinity_of = affinity_of
        self._clustered: dict[GroupingSettings, Grouping] = {}

    def grouping(self, settings: GroupingSettings) -> Grouping:
        """The grouping of these settings."""
        if settings.method == "singles":
            return Grouping.singles(self.targets)
        if settings.method == "together":
            return Grouping.together(self.targets)
        if settings.method == "random":
            k = settings.k or len(self.grouping(self._default))
            return Grouping.random(self.targets, k, settings.seed)
        if settings not in self._clustered:
            self._clustered[settings] = self._cluster(settings)
        return self._clustered[settings]

    def _cluster(self, settings: GroupingSettings) -> Grouping:
        graph = target_graph(
            self._affinity_of(settings.affinity),
            sparsifier=settings.sparsifier,
            alpha=settings.alpha,
            threshold=settings.threshold,
            k=settings.neighbours,
        )
        k = None if settings.k is None else min(settings.k, len(self.targets))
        sign = "positive" if settings.affinity in MEASURED_IN_TRAINING else "absolute"
        return cluster(
            graph,
            method=settings.method,
            resolution=settings.resolution,
            k=k,
            seed=settings.seed,
            sign=sign,
        )
