"""What a predictor of untrained sets is: fit on measured networks, predict mean and spread for any others."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping.candidates import Candidate

_PRIOR_SPREAD = 0.1  # relative spread of a task's results over sets before any is seen
_PRIOR_WEIGHT = 3.0  # as many observations it is worth


@dataclass(frozen=True)
class SetArrays:
    """Networks as arrays: ``member`` [sets, tasks] True inside the set, ``cost`` [sets], ``values`` or NaN."""

    tasks: tuple[str, ...]
    member: np.ndarray
    cost: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, candidates: Sequence[Candidate], tasks: tuple[str, ...]) -> "SetArrays":
        """Raises GroupingError for a task that is not among ``tasks``."""
        column = {task: i for i, task in enumerate(tasks)}
        member = np.zeros((len(candidates), len(tasks)), dtype=bool)
        values = np.full(member.shape, np.nan)
        for row, candidate in enumerate(candidates):
            for task in candidate.tasks:
                if task not in column:
                    raise GroupingError(
                        f"no trained set holds the task '{task}', {did_you_mean(task, tasks)}"
                    )
                member[row, column[task]] = True
                values[row, column[task]] = candidate.scores.get(task, np.nan)
        return cls(tasks, member, np.array([candidate.cost for candidate in candidates]), values)

    def helpers(self, task: int) -> np.ndarray:
        """``member`` without the task itself, as numbers: who learns along with it."""
        others = self.member.astype(float)
        others[:, task] = 0.0
        return others


@dataclass(frozen=True)
class Prediction:
    """Expected values and their standard deviations [sets, tasks]; NaN where a task is not in the set."""

    tasks: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray


class GainPredictor(ABC):
    """Fit on the sets trained so far, predict any set.

    A subclass says in ``_learn`` what it keeps of the trained networks and in ``_expect`` what it expects of others.
    Trained networks (same tasks, cost and key) are always predicted as measured, with spread 0.
    """

    def fit(self, trained: Sequence[Candidate]) -> Self:
        """Learn from measured networks, in any order; every task needs a score in at least one."""
        if not trained:
            raise GroupingError(
                "a predictor must be fitted on at least one trained set, found none"
            )
        trained = sorted(trained, key=lambda c: (c.tasks, c.cost, c.key))
        self.tasks = tuple(sorted({task for candidate in trained for task in candidate.tasks}))
        self._measured = {(c.tasks, c.cost, c.key): c for c in trained}
        arrays = SetArrays.of(trained, self.tasks)
        unknown = np.isnan(arrays.values).all(axis=0)
        if unknown.any():
            raise GroupingError(
                f"a predictor needs a score of every task, found none of '{self.tasks[unknown.argmax()]}'"
            )
        self.level = np.nanmean(arrays.values, axis=0)
        self.spread = _spread(arrays.values, self.level)
        self._learn(arrays)
        return self

    def predict(self, candidates: Sequence[Candidate]) -> Prediction:
        """Mean and spread for networks of tasks seen in training (scores of ``candidates`` are not looked at)."""
        queries = SetArrays.of(candidates, self.tasks)
        mean, spread = self._expect(queries)
        for row, candidate in enumerate(candidates):
            measured = self._measured.get((candidate.tasks, candidate.cost, candidate.key))
            for task, value in (measured.scores if measured else {}).items():
                mean[row, self.tasks.index(task)], spread[row, self.tasks.index(task)] = value, 0.0
        outside = ~queries.member
        return Prediction(
            self.tasks, np.where(outside, np.nan, mean), np.where(outside, np.nan, spread)
        )

    @abstractmethod
    def _learn(self, trained: SetArrays) -> None:
        """Keep what is needed of the trained networks; ``level`` and ``spread`` of each task are known already."""

    @abstractmethod
    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread [sets, tasks] of networks; what stands outside a set is ignored."""

    def _standard(self, values: np.ndarray) -> np.ndarray:
        """Values in spreads from the level of each task, which makes tasks comparable."""
        return (values - self.level) / self.spread


def _spread(values: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Standard deviation of each task over sets, drawn towards that of all tasks relative to their levels."""
    size = np.maximum(np.abs(level), 1e-12)
    relative = (values - level) / size
    pooled = (_PRIOR_WEIGHT * _PRIOR_SPREAD**2 + np.nansum(relative**2)) / (
        _PRIOR_WEIGHT + np.isfinite(relative).sum()
    )
    counts = np.isfinite(relative).sum(axis=0)
    return size * np.sqrt(
        (_PRIOR_WEIGHT * pooled + np.nansum(relative**2, axis=0)) / (_PRIOR_WEIGHT + counts)
    )
