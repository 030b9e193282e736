"""The interface of predictors: fit on measured networks, predict mean and spread of any others."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping.candidates import Candidate

# Relative spread of a task's results over sets before any is seen, and how many results this guess is worth.
_PRIOR_SPREAD = 0.1
_PRIOR_WEIGHT = 3.0
# A level of zero has no relative spread.
_LEAST_LEVEL = 1e-12


@dataclass(frozen=True)
class SetArrays:
    """Networks as arrays: ``member`` [sets, tasks] True inside the set, ``cost`` [sets], ``values`` or NaN."""

    tasks: tuple[str, ...]
    member: np.ndarray
    cost: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, candidates: Sequence[Candidate], tasks: tuple[str, ...]) -> "SetArrays":
        """Return networks as arrays. Raises GroupingError for a task that is not among ``tasks``."""
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
        """Return who learns along with a task: ``member`` as numbers, without the task itself."""
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
        """Learn from measured networks, in any order.

        Raises GroupingError where there is none, or a task has no score in any.
        """
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
        """Return mean and spread for networks of tasks seen in training; scores of ``candidates`` are not read."""
        queries = SetArrays.of(candidates, self.tasks)
        mean, spread = self._expect(queries)
        for row, candidate in enumerate(candidates):
            measured = self._measured.get((candidate.tasks, candidate.cost, candidate.key))
            if measured is None:
                continue
            for task, value in measured.scores.items():
                column = self.tasks.index(task)
                mean[row, column] = value
                spread[row, column] = 0.0
        mean = np.where(queries.member, mean, np.nan)
        spread = np.where(queries.member, spread, np.nan)
        return Prediction(self.tasks, mean, spread)

    @abstractmethod
    def _learn(self, trained: SetArrays) -> None:
        """Keep what is needed of the trained networks; ``level`` and ``spread`` of each task are known already."""

    @abstractmethod
    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread [sets, tasks] of networks; what stands outside a set is ignored."""

    def _standard(self, values: np.ndarray) -> np.ndarray:
        """Return values in spreads from the level of each task, which makes tasks comparable."""
        return (values - self.level) / self.spread


def _spread(values: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each task over sets, drawn towards that of all tasks (relative to level)."""
    size = np.maximum(np.abs(level), _LEAST_LEVEL)
    relative = (values - level) / size
    squares = np.nansum(relative**2, axis=0)
    counts = np.isfinite(relative).sum(axis=0)
    prior = _PRIOR_WEIGHT * _PRIOR_SPREAD**2
    pooled = (prior + squares.sum()) / (_PRIOR_WEIGHT + counts.sum())
    return size * np.sqrt((_PRIOR_WEIGHT * pooled + squares) / (_PRIOR_WEIGHT + counts))
