"""From the clustering settings of a trial to its grouping."""

from collections.abc import Callable, Sequence

import networkx as nx

from taskgroup.affinity import Affinity
from taskgroup.grouping import Grouping, cluster, target_graph
from taskgroup.grouping.cluster import find_clusterer
from taskgroup.spec.sections import RANDOM
from taskgroup.spec.space import MEASURED_IN_TRAINING, GroupingSettings


class GroupingBuilder:
    """Makes groupings of targets out of clustering settings; equal settings are clustered once.

    Parameters
    ----------
    targets: names of the targets.
    default: the settings that baselines use.
    affinity_of: returns the affinity of a name.
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
        self._groupings: dict[GroupingSettings, Grouping] = {}

    def grouping(self, settings: GroupingSettings) -> Grouping:
        """Return the grouping of these settings. Raises GroupingError or TrainingFailed: it cannot be made."""
        if settings not in self._groupings:
            self._groupings[settings] = cluster(
                self._graph(settings),
                method=settings.method,
                resolution=settings.resolution,
                k=self._number_of_groups(settings),
                seed=settings.seed,
                # Opposite labels are as much alike as equal ones; opposite gradients harm each other.
                sign="positive" if settings.affinity in MEASURED_IN_TRAINING else "absolute",
            )
        return self._groupings[settings]

    def _graph(self, settings: GroupingSettings) -> nx.Graph:
        # An affinity may take a joint training run: it is not computed for methods that ignore it.
        if not find_clusterer(settings.method).reads_edges:
            return nx.empty_graph(self.targets)
        return target_graph(
            self._affinity_of(settings.affinity),
            sparsifier=settings.sparsifier,
            alpha=settings.alpha,
            threshold=settings.threshold,
            k=settings.neighbours,
        )

    def _number_of_groups(self, settings: GroupingSettings) -> int | None:
        if settings.k is not None:
            return min(settings.k, len(self.targets))
        # Random groups are compared with the default grouping: with as many groups, the comparison is fair.
        if settings.method == RANDOM:
            return len(self.grouping(self._default))
        return None
