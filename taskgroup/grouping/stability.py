"""Stability of a grouping under other materials, another seed or another measure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from taskgroup.errors import GroupingError
from taskgroup.grouping.grouping import Group, Grouping

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.datasets import TargetTable

SHARE = 0.632
"""Share of the materials in a draw: a bootstrap sample holds as many distinct ones."""
# Shares are sums of whole numbers over their count, so a share of just ``least`` must not fall below it by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Stability:
    """Agreement of groupings of the same targets.

    names: the T targets, sorted; together: float [T, T], share of the groupings in which two targets are served by the
    same group (1 on the diagonal); groupings: what was counted.
    """

    names: tuple[str, ...]
    together: np.ndarray
    groupings: tuple[Grouping, ...]

    @classmethod
    def of(cls, groupings: Iterable[Grouping]) -> "Stability":
        """Count who is served together; GroupingError for no groupings or groupings of different targets."""
        counted = tuple(groupings)
        if not counted:
            raise GroupingError("Stability needs at least one grouping, but got none.")
        names = counted[0].targets
        for grouping in counted:
            if grouping.targets != names:
                odd = sorted(set(names) ^ set(grouping.targets))
                raise GroupingError(
                    f"Groupings must have the same targets to be compared, but only some have {odd}."
                )
        labels = np.array([grouping.labels() for grouping in counted])
        return cls(names, (labels[:, :, None] == labels[:, None, :]).mean(axis=0), counted)

    def share(self, one: str, other: str) -> float:
        """Return the share of the groupings in which both targets are served by the same group."""
        return float(self.together[self.names.index(one), self.names.index(other)])

    def of_group(self, group: Group) -> float:
        """Return the mean share over the pairs that a group serves; for one target, the share of being alone."""
        at = [self.names.index(name) for name in group.serves]
        if len(at) == 1:
            homes = [grouping.serving(group.serves[0]) for grouping in self.groupings]
            n_alone = sum(len(home.serves) == 1 for home in homes)
            return n_alone / len(self.groupings)
        block = self.together[np.ix_(at, at)]
        return float(block[np.triu_indices(len(at), k=1)].mean())

    def on(self, graph: nx.Graph) -> nx.Graph:
        """Return a copy of a target graph whose edges also carry ``stability``, the share of their two targets."""
        copy = graph.copy()
        for one, other, data in copy.edges(data=True):
            data["stability"] = self.share(one, other)
        return copy

    def consensus(self, least: float = 0.5) -> Grouping:
        """Return the grouping they agree on: average linkage of the shares, cut where they fall below least."""
        if not 0.0 < least <= 1.0:
            raise GroupingError(f"least must lie above 0 and not above 1, but got {least}.")
        from scipy.cluster.hierarchy import average, fcluster
        from scipy.spatial.distance import squareform

        if len(self.names) == 1:
            return Grouping.together(self.names)
        tree = average(squareform(1.0 - self.together, checks=False))
        labels = fcluster(tree, t=1.0 - least + _ROUNDING, criterion="distance")
        parts: dict[int, list[str]] = {}
        for name, label in zip(self.names, labels.tolist(), strict=True):
            parts.setdefault(label, []).append(name)
        return Grouping.from_partition(parts.values())

    def frame(self) -> "pd.DataFrame":
        """Return the shares as a table."""
        import pandas as pd

        return pd.DataFrame(self.together, index=list(self.names), columns=list(self.names))


def resample(
    table: "TargetTable",
    group: Callable[["TargetTable"], Grouping],
    draws: int = 100,
    seed: int = 0,
) -> Stability:
    """Group many random parts of the materials and count who stays together.

    Each draw holds 63.2 % of the materials, none twice: as much to vary as in a bootstrap, but without its copies of
    materials, which would make p-values too small (Politis and Romano 1994, doi:10.1214/aos/1176325770).

    Args:
        table: labels.
        group: from a table to a grouping, e.g. ``lambda part: cluster(target_graph(part))``.
        draws: how many parts; the standard error of a share s is sqrt(s (1 - s) / draws).
        seed: of the draws.
    """
    if draws < 1:
        raise GroupingError(f"draws must be at least 1, but got {draws}.")
    random = np.random.default_rng(seed)
    n_rows = len(table.values)
    size = max(1, round(SHARE * n_rows))
    groupings = []
    for _ in range(draws):
        drawn = np.sort(random.choice(n_rows, size, replace=False))
        groupings.append(group(table.rows(drawn)))
    return Stability.of(groupings)


def agreement(groupings: Mapping[str, Grouping]) -> "pd.DataFrame":
    """Return the adjusted Rand index of every two groupings (one per measure, say): 1 equal, 0 unrelated.

    Groupings that each put all targets together (or each alone) are equal and so get 1.
    """
    import pandas as pd

    names = list(groupings)
    frame = pd.DataFrame(index=names, columns=names, dtype=float)
    for a in names:
        for b in names:
            frame.loc[a, b] = 1.0 - groupings[a].distance(groupings[b])
    return frame
