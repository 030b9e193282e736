"""Predictors of the literature that take means: of pairs, of all sets that share a pair, of networks stopped early."""

from collections.abc import Sequence

import numpy as np

from taskgroup.grouping.candidates import Candidate
from taskgroup.grouping.predict._base import GainPredictor, SetArrays


class PairMeans(GainPredictor):
    """Higher-order approximation (HOA): a task in a set reaches the mean of its results in the pairs within the set.

    Standley et al., ICML 2020, arXiv:1905.07553. A pair that was not trained counts with the task's level; a task alone
    is predicted by its trained networks alone, of any cost. The spread is that of the task over sets.
    """

    def _learn(self, trained: SetArrays) -> None:
        sizes = trained.member.sum(axis=1)
        self._in_pair = _mean_by_helper(trained, sizes == 2, self.level)
        is_single = (sizes == 1)[:, None]
        singles = np.where(is_single, trained.values, np.nan)
        has_single = ~np.isnan(singles).all(axis=0)
        self._alone = self.level.copy()
        self._alone[has_single] = np.nanmean(singles[:, has_single], axis=0)

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        mean = _mean_over_helpers(queries, self._in_pair, self._alone)
        return mean, np.tile(self.spread, (len(mean), 1))


class SubsetMeans(GainPredictor):
    """Mean over subsets: a task with a helper reaches its mean over the sets of both; in a set, the mean of these.

    Li, Ju, Sharma, Zhang 2023, arXiv:2306.14009. The spread shrinks with the number of sets behind the mean.
    """

    def _learn(self, trained: SetArrays) -> None:
        everything = np.ones(len(trained.cost), dtype=bool)
        self._with_helper = _mean_by_helper(trained, everything, self.level)
        self._count = trained.member.T.astype(float) @ trained.member

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        mean = _mean_over_helpers(queries, self._with_helper, self.level)
        columns = [queries.helpers(task) @ self._count[task] for task in range(len(self.tasks))]
        n_sets_behind = np.stack(columns, axis=1)
        return mean, self.spread * np.sqrt(1 + 1 / (1 + n_sets_behind))


class EarlyStopping(GainPredictor):
    """Early stopping approximation (ESA): a network reaches what its first epochs promise.

    Standley et al., ICML 2020, arXiv:1905.07553. ``early`` are networks stopped early; their values are multiplied by
    the ratio of final to early values of the networks trained to the end. Networks without early values are
    predicted by the level of the task.
    """

    def __init__(self, early: Sequence[Candidate]) -> None:
        self._early = {(network.tasks, network.cost): network.scores for network in early}

    def _early_values(self, arrays: SetArrays) -> np.ndarray:
        values = np.full(arrays.member.shape, np.nan)
        for row, (member, cost) in enumerate(zip(arrays.member, arrays.cost, strict=True)):
            tasks = tuple(task for task, inside in zip(self.tasks, member, strict=True) if inside)
            scores = self._early.get((tasks, float(cost)), {})
            for task, value in scores.items():
                values[row, self.tasks.index(task)] = value
        return values

    def _learn(self, trained: SetArrays) -> None:
        ratio = trained.values / self._early_values(trained)
        known = np.isfinite(ratio)
        overall = np.median(ratio[known]) if known.any() else 1.0
        # The median of all tasks counts as one more network of each, for tasks with few.
        totals = np.where(known, ratio, 0.0).sum(axis=0) + overall
        self._ratio = totals / (known.sum(axis=0) + 1)

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        promised = self._early_values(queries) * self._ratio
        mean = np.where(np.isnan(promised), self.level, promised)
        return mean, np.tile(self.spread, (len(mean), 1))


def _mean_by_helper(trained: SetArrays, rows: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return [task, helper]: mean value of the task over the given trained rows that hold both; ``missing`` else."""
    is_known = rows[:, None] & np.isfinite(trained.values)
    values = np.where(is_known, trained.values, 0.0)
    counts = is_known.T.astype(float) @ trained.member
    means = values.T @ trained.member / np.maximum(counts, 1)
    return np.where(counts > 0, means, missing[:, None])


def _mean_over_helpers(queries: SetArrays, by_helper: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Return [sets, tasks]: mean of a task's values by helper over its helpers; its value alone where there is none."""
    columns = []
    for task in range(len(alone)):
        helpers = queries.helpers(task)
        counts = helpers.sum(axis=1)
        means = helpers @ by_helper[task] / np.maximum(counts, 1)
        columns.append(np.where(counts > 0, means, alone[task]))
    return np.stack(columns, axis=1)
