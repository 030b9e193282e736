"""A Gaussian process over sets: every helper has an effect of its own, and sets that differ little behave alike."""

import itertools

import numpy as np

from taskgroup.grouping.predict._base import GainPredictor, SetArrays

_EFFECTS = (0.0, 0.5, 1.0)  # variance of the helpers' own effects
_LIKENESS = (0.25, 1.0)  # variance of what only like sets share
_LENGTHS = (0.25, 0.5, 1.0)  # distance of such sets, in numbers of all other tasks
_NOISE = 0.05


class SetProcess(GainPredictor):
    """Gaussian process with a kernel on sets, one a task, of shared hyper-parameters chosen by the evidence.

    For a task, sets S and S' without it, of n other tasks, at costs c and c':
    k = 1 + (e |S & S'| / n + v exp(-|S ^ S'| / (l n))) exp(-log2(c/c')^2 / 2), in spreads of the task, plus noise.
    """

    def _learn(self, trained: SetArrays) -> None:
        self._trained = trained
        standard = self._standard(trained.values)
        rows = [np.flatnonzero(np.isfinite(column)) for column in standard.T]
        self._given = [(r, standard[r, task]) for task, r in enumerate(rows)]
        choices = list(itertools.product(_EFFECTS, _LIKENESS, _LENGTHS))
        self._choice = max(choices, key=self._evidence)

    def _kernel(self, left: SetArrays, right: SetArrays, task: int, choice: tuple[float, float, float]) -> np.ndarray:
        effects, likeness, length = choice
        n = max(len(self.tasks) - 1, 1)
        a, b = left.helpers(task), right.helpers(task)
        shared = a @ b.T
        differing = a.sum(axis=1)[:, None] + b.sum(axis=1) - 2 * shared
        octaves = np.log2(np.maximum(left.cost, 1e-3))[:, None] - np.log2(np.maximum(right.cost, 1e-3))
        alike = effects * shared / n + likeness * np.exp(-differing / (length * n))
        return 1.0 + alike * np.exp(-0.5 * octaves**2)

    def _covariance(self, task: int, choice: tuple[float, float, float]) -> np.ndarray:
        rows, _ = self._given[task]
        kernel = self._kernel(self._trained, self._trained, task, choice)[np.ix_(rows, rows)]
        return kernel + _NOISE * np.eye(len(rows))

    def _evidence(self, choice: tuple[float, float, float]) -> float:
        total = 0.0
        for task, (_, values) in enumerate(self._given):
            factor = np.linalg.cholesky(self._covariance(task, choice))
            total -= 0.5 * float(values @ _solve(factor, values)) + float(np.log(np.diag(factor)).sum())
        return total

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = np.empty(queries.member.shape), np.empty(queries.member.shape)
        for task, (rows, values) in enumerate(self._given):
            factor = np.linalg.cholesky(self._covariance(task, self._choice))
            across = self._kernel(queries, self._trained, task, self._choice)[:, rows]
            itself = self._itself(queries, task)
            explained = np.einsum("qr,rq->q", across, _solve(factor, across.T))
            mean[:, task] = across @ _solve(factor, values)
            spread[:, task] = np.sqrt(np.maximum(itself - explained, 0.0) + _NOISE)
        return self.level + self.spread * mean, self.spread * spread

    def _itself(self, queries: SetArrays, task: int) -> np.ndarray:
        effects, likeness, _ = self._choice
        return 1.0 + effects * queries.helpers(task).sum(axis=1) / max(len(self.tasks) - 1, 1) + likeness


def _solve(factor: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.solve(factor.T, np.linalg.solve(factor, values))
