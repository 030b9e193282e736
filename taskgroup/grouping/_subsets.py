"""Covers of few tasks by dynamic programming over the sets of tasks: all numbers of networks from one table.

The best cover of tasks S by k sets gives some U in S to one of them, the one with the least total over U, and the rest
to the best cover by k - 1. So 3^T / 2 pairs of S and U decide, whatever the number of sets.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from taskgroup.grouping._bounds import Cover, without_idle

MOST_TASKS = 11
_MOST_SEEN = 300  # ways to share the tasks that are as good as the best
_ROUNDING = 1e-12
_CHUNK = 1 << 12  # sets whose totals over all sets of tasks are in memory at a time


class Subsets:
    """The tables of a cover without a budget, in which sets may overlap; at most ``MOST_TASKS`` tasks.

    A set of tasks is a number whose bits are its tasks. ``least`` [sets of tasks] is the least total that one set gives
    over them, ``best[k]`` [sets of tasks] that of k sets that share them.
    """

    def __init__(self, cover: Cover) -> None:
        self._cover = cover
        tasks = cover.values.shape[1]
        member = (np.arange(1 << tasks)[:, None] >> np.arange(tasks)) & 1
        chunks = np.array_split(cover.values, max(1, -(-len(cover.values) // _CHUNK)))
        self._member = member.astype(bool)
        self.least = np.min([(chunk @ member.T).min(axis=0) for chunk in chunks], axis=0)
        self.best = [np.where(np.arange(1 << tasks) == 0, 0.0, np.inf)]

    def least_total(self, groups: int) -> float:
        """Of covers of all tasks by at most so many sets."""
        whole, part, starts = splits(len(self._member[0]))
        while len(self.best) <= groups:
            totals = self.least[part] + self.best[-1][whole ^ part]
            self.best.append(np.concatenate([[np.inf], np.minimum.reduceat(totals, starts)]))
        return float(min(best[-1] for best in self.best[: groups + 1]))

    def choices(self, groups: int, slack: float) -> list[list[int]] | None:
        """All choices of at most so many sets whose totals are within ``slack`` of the least, without idle sets.

        None where they are too many.
        """
        least = self.least_total(groups)
        limit = least + slack + _ROUNDING * abs(least)
        everything, totals = len(self.least) - 1, {}
        shared = (
            rows
            for number in range(1, groups + 1)
            for rows in self._shared(everything, number, limit)
        )
        for seen, rows in enumerate(shared):
            if seen == _MOST_SEEN:
                return None
            totals[tuple(without_idle(self._cover, rows))] = self._cover.total(rows)
        best = min(totals.values())
        return [list(rows) for rows, total in totals.items() if total <= best + slack]

    def _shared(self, tasks: int, number: int, limit: float) -> Iterator[tuple[int, ...]]:
        """Rows of ``number`` sets that share these tasks within a total."""
        if number == 0:
            if tasks == 0:
                yield ()
            return
        if not tasks or self.best[number][tasks] > limit:
            return
        for part in _parts(tasks).tolist():
            rest = self.best[number - 1][tasks ^ part]
            if self.least[part] + rest > limit:
                continue
            totals = self._cover.values[:, self._member[part]].sum(axis=1)
            for row in np.flatnonzero(totals + rest <= limit):
                for others in self._shared(tasks ^ part, number - 1, limit - totals[row]):
                    yield (int(row), *others)


@lru_cache(maxsize=MOST_TASKS)
def splits(tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each set of tasks but the empty one with each part that holds its first task; where those of a set start."""
    parts = [_parts(whole) for whole in range(1, 1 << tasks)]
    sizes = np.array([len(each) for each in parts])
    return (
        np.repeat(np.arange(1, 1 << tasks), sizes),
        np.concatenate(parts),
        np.cumsum(sizes) - sizes,
    )


def _parts(whole: int) -> np.ndarray:
    """Parts of a set of tasks that hold its first task."""
    parts = np.array([whole & -whole])
    for bit in range(whole.bit_length()):
        if whole >> bit & 1 and 1 << bit != whole & -whole:
            parts = np.concatenate([parts, parts | 1 << bit])
    return parts
