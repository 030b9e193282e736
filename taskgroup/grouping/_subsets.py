"""Covers of few tasks by dynamic programming over the sets of tasks: all numbers of networks from one table.

The best cover of tasks S by k sets gives some U in S to one of them, the one with the least total over U, and the rest
to the best cover by k - 1. So 3^T / 2 pairs of S and U decide, whatever the number of sets.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from taskgroup.grouping._bounds import Cover, without_idle

MOST_TASKS = 11
# Ways to share the tasks among networks that are as good as the best; of more, the search is asked.
_MOST_SEEN = 300
# Relative error of sums in another order.
_ROUNDING = 1e-12
# Sets whose totals over all sets of tasks are in memory at a time.
_CHUNK = 1 << 12


class Subsets:
    """The tables of a cover without a budget, in which sets may overlap; at most ``MOST_TASKS`` tasks.

    A set of tasks is a number whose bits are its tasks. ``least`` [sets of tasks] is the least total that one set gives
    over them, ``best[k]`` [sets of tasks] that of k sets that share them.
    """

    def __init__(self, cover: Cover) -> None:
        self._cover = cover
        n_tasks = cover.values.shape[1]
        codes = np.arange(1 << n_tasks)
        member = (codes[:, None] >> np.arange(n_tasks)) & 1
        n_chunks = max(1, math.ceil(len(cover.values) / _CHUNK))
        least_of_chunks = []
        for chunk in np.array_split(cover.values, n_chunks):
            least_of_chunks.append((chunk @ member.T).min(axis=0))
        self._member = member.astype(bool)
        self.least = np.min(least_of_chunks, axis=0)
        self.best = [np.where(codes == 0, 0.0, np.inf)]

    def least_total(self, groups: int) -> float:
        """Return the least total of covers of all tasks by at most so many sets."""
        whole, part, starts = splits(len(self._member[0]))
        while len(self.best) <= groups:
            totals = self.least[part] + self.best[-1][whole ^ part]
            self.best.append(np.concatenate([[np.inf], np.minimum.reduceat(totals, starts)]))
        return float(min(best[-1] for best in self.best[: groups + 1]))

    def choices(self, groups: int, slack: float) -> list[list[int]] | None:
        """Return all choices of at most so many sets whose totals are within ``slack`` of the least, without idle sets.

        None where they are too many.
        """
        least = self.least_total(groups)
        limit = least + slack + _ROUNDING * abs(least)
        everything = len(self.least) - 1
        totals = {}
        n_seen = 0
        for number in range(1, groups + 1):
            for rows in self._shared(everything, number, limit):
                if n_seen == _MOST_SEEN:
                    return None
                n_seen += 1
                totals[tuple(without_idle(self._cover, rows))] = self._cover.total(rows)
        best = min(totals.values())
        return [list(rows) for rows, total in totals.items() if total <= best + slack]

    def _shared(self, tasks: int, number: int, limit: float) -> Iterator[tuple[int, ...]]:
        """Yield the rows of ``number`` sets that share these tasks within a total."""
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
    """Return each set of tasks but the empty one, with its parts that hold its first task, and where these start."""
    parts = [_parts(whole) for whole in range(1, 1 << tasks)]
    sizes = np.array([len(parts_of_set) for parts_of_set in parts])
    whole = np.repeat(np.arange(1, 1 << tasks), sizes)
    starts = np.cumsum(sizes) - sizes
    return whole, np.concatenate(parts), starts


def _parts(whole: int) -> np.ndarray:
    """Return the parts of a set of tasks that hold its first task."""
    first = whole & -whole
    parts = np.array([first])
    for bit in range(whole.bit_length()):
        if whole >> bit & 1 and 1 << bit != first:
            parts = np.concatenate([parts, parts | 1 << bit])
    return parts
