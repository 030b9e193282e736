"""A Gaussian process over sets: every helper has an effect of its own, and sets that differ little behave alike."""

import itertools
from dataclasses import dataclass

import numpy as np

from taskgroup.grouping.predict._base import GainPredictor, SetArrays

# Values that are compared by the evidence: variances of helpers' effects that add up, of helpers' effects whose mean
# counts (as in HOA), and of what only like sets share; and the distance of such sets in parts of all other tasks.
_SUMMED = (0.0, 0.5, 1.0)
_AVERAGED = (0.0, 1.0, 2.0)
_LIKENESS = (0.25, 1.0)
_LENGTHS = (0.25, 0.75)
# Variance of a result around what the set explains.
_NOISE = 0.05
# Costs below this count as this one, so that a network that costs nothing has a logarithm.
_LEAST_COST = 1e-3

_Choice = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Pairs:
    """Measures of likeness between two lists of networks, [tasks, left, right] each (``cost`` without tasks)."""

    summed: np.ndarray
    averaged: np.ndarray
    differing: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(cls, left: SetArrays, right: SetArrays) -> "_Pairs":
        tasks = range(len(left.tasks))
        a = np.stack([left.helpers(task) for task in tasks])
        b = np.stack([right.helpers(task) for task in tasks])
        sizes_a = a.sum(axis=2)[:, :, None]
        sizes_b = b.sum(axis=2)[:, None, :]
        shared = a @ b.transpose(0, 2, 1)
        n_helpers = max(len(left.tasks) - 1, 1)
        octaves = _octaves(left.cost)[:, None] - _octaves(right.cost)[None, :]
        return cls(
            summed=shared / n_helpers,
            averaged=shared / (np.maximum(sizes_a, 1) * np.maximum(sizes_b, 1)),
            differing=(sizes_a + sizes_b - 2 * shared) / n_helpers,
            cost=np.exp(-0.5 * octaves**2),
        )

    def kernel(self, choice: _Choice) -> np.ndarray:
        summed, averaged, likeness, length = choice
        alike = likeness * np.exp(-self.differing / length)
        return 1.0 + (summed * self.summed + averaged * self.averaged + alike) * self.cost


def _octaves(cost: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(cost, _LEAST_COST))


class SetProcess(GainPredictor):
    """Gaussian process per task with a kernel on sets; its hyper-parameters are shared and chosen by the evidence.

    For a task, sets S and S' without it, of n other tasks, at costs c and c':
    k = 1 + (e |S & S'| / n + m |S & S'| / (|S| |S'|) + v exp(-|S ^ S'| / (l n))) exp(-log2(c/c')^2 / 2), in spreads of
    the task, plus noise. Helpers add up (e), or their mean counts (m), so that small sets are the extreme ones.
    """

    def _learn(self, trained: SetArrays) -> None:
        standard = self._standard(trained.values).T
        self._trained = trained
        self._known = np.isfinite(standard)
        self._given = np.where(self._known, standard, 0.0)
        pairs = _Pairs.of(trained, trained)
        choices = itertools.product(_SUMMED, _AVERAGED, _LIKENESS, _LENGTHS)
        self._choice = max(choices, key=lambda choice: self._evidence(pairs, choice))
        self._covariance = self._covariances(pairs, self._choice)

    def _covariances(self, pairs: _Pairs, choice: _Choice) -> np.ndarray:
        """Return [tasks, trained, trained]; a network that does not serve the task stands apart, with variance 1."""
        both_known = self._known[:, :, None] & self._known[:, None, :]
        signal = np.where(both_known, pairs.kernel(choice), 0.0)
        noise = np.where(self._known, _NOISE, 1.0)
        return signal + noise[:, :, None] * np.eye(len(self._trained.cost))

    def _evidence(self, pairs: _Pairs, choice: _Choice) -> float:
        """Return the log marginal likelihood over all tasks, but for a constant."""
        covariance = self._covariances(pairs, choice)
        weighted = np.linalg.solve(covariance, self._given[:, :, None])[:, :, 0]
        fit = (self._given * weighted).sum()
        log_determinant = np.linalg.slogdet(covariance).logabsdet.sum()
        return float(-0.5 * (fit + log_determinant))

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        kernel = _Pairs.of(queries, self._trained).kernel(self._choice)
        across = np.where(self._known[:, None, :], kernel, 0.0)
        weights = np.linalg.solve(self._covariance, across.transpose(0, 2, 1)).transpose(0, 2, 1)
        mean = np.einsum("tqr,tr->qt", weights, self._given)
        explained = np.einsum("tqr,tqr->qt", weights, across)
        variance = np.maximum(self._prior_variance(queries) - explained, 0.0) + _NOISE
        return self.level + self.spread * mean, self.spread * np.sqrt(variance)

    def _prior_variance(self, queries: SetArrays) -> np.ndarray:
        """Return [sets, tasks]; what stands outside a set is ignored."""
        summed, averaged, likeness, _ = self._choice
        n_tasks = len(self.tasks)
        n_helpers = queries.member.sum(axis=1)[:, None] - 1.0
        of_mean = np.where(n_helpers > 0, averaged / np.maximum(n_helpers, 1), 0.0)
        variance = 1.0 + summed * n_helpers / max(n_tasks - 1, 1) + of_mean + likeness
        return np.repeat(variance, n_tasks, axis=1)
