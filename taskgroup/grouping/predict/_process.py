"""A Gaussian process over sets: every helper has an effect of its own, and sets that differ little behave alike."""

import itertools
from dataclasses import dataclass

import numpy as np

from taskgroup.grouping.predict._base import GainPredictor, SetArrays

_SUMMED = (0.0, 0.5, 1.0)  # variance of helpers' effects that add up
_AVERAGED = (0.0, 1.0, 2.0)  # variance of helpers' effects whose mean counts, as in HOA
_LIKENESS = (0.25, 1.0)  # variance of what only like sets share
_LENGTHS = (0.25, 0.75)  # distance of such sets, in numbers of all other tasks
_NOISE = 0.05

_Choice = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Pairs:
    """What the kernel compares in two lists of networks, [tasks, left, right] each (``cost`` without tasks)."""

    summed: np.ndarray
    averaged: np.ndarray
    differing: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(cls, left: SetArrays, right: SetArrays) -> "_Pairs":
        a, b = (
            np.stack([arrays.helpers(task) for task in range(len(left.tasks))])
            for arrays in (left, right)
        )
        sizes, others = a.sum(axis=2)[:, :, None], b.sum(axis=2)[:, None, :]
        shared = a @ b.transpose(0, 2, 1)
        octaves = np.log2(np.maximum(left.cost, 1e-3))[:, None] - np.log2(
            np.maximum(right.cost, 1e-3)
        )
        n = max(len(left.tasks) - 1, 1)
        return cls(
            shared / n,
            shared / (np.maximum(sizes, 1) * np.maximum(others, 1)),
            (sizes + others - 2 * shared) / n,
            np.exp(-0.5 * octaves**2),
        )

    def kernel(self, choice: _Choice) -> np.ndarray:
        summed, averaged, likeness, length = choice
        alike = likeness * np.exp(-self.differing / length)
        return 1.0 + (summed * self.summed + averaged * self.averaged + alike) * self.cost


class SetProcess(GainPredictor):
    """Gaussian process with a kernel on sets, one a task, of shared hyper-parameters chosen by the evidence.

    For a task, sets S and S' without it, of n other tasks, at costs c and c':
    k = 1 + (e |S & S'| / n + m |S & S'| / (|S| |S'|) + v exp(-|S ^ S'| / (l n))) exp(-log2(c/c')^2 / 2), in spreads of
    the task, plus noise. Helpers add up (e), or their mean counts (m), so that small sets are the extreme ones.
    """

    def _learn(self, trained: SetArrays) -> None:
        standard = self._standard(trained.values).T
        self._trained, self._known = trained, np.isfinite(standard)
        self._given = np.where(self._known, standard, 0.0)
        pairs = _Pairs.of(trained, trained)
        choices = itertools.product(_SUMMED, _AVERAGED, _LIKENESS, _LENGTHS)
        self._choice = max(choices, key=lambda choice: self._evidence(pairs, choice))
        self._covariance = self._covariances(pairs, self._choice)

    def _covariances(self, pairs: _Pairs, choice: _Choice) -> np.ndarray:
        """[tasks, trained, trained]; a network that does not serve the task stands apart, with variance 1."""
        both = self._known[:, :, None] & self._known[:, None, :]
        own = np.where(self._known, _NOISE, 1.0)[:, :, None] * np.eye(len(self._trained.cost))
        return np.where(both, pairs.kernel(choice), 0.0) + own

    def _evidence(self, pairs: _Pairs, choice: _Choice) -> float:
        covariance = self._covariances(pairs, choice)
        fit = (self._given * np.linalg.solve(covariance, self._given[:, :, None])[:, :, 0]).sum()
        return float(-0.5 * (fit + np.linalg.slogdet(covariance).logabsdet.sum()))

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        kernel = _Pairs.of(queries, self._trained).kernel(self._choice)
        across = np.where(self._known[:, None, :], kernel, 0.0)
        weights = np.linalg.solve(self._covariance, across.transpose(0, 2, 1)).transpose(0, 2, 1)
        mean = np.einsum("tqr,tr->qt", weights, self._given)
        left = self._itself(queries) - np.einsum("tqr,tqr->qt", weights, across)
        return self.level + self.spread * mean, self.spread * np.sqrt(
            np.maximum(left, 0.0) + _NOISE
        )

    def _itself(self, queries: SetArrays) -> np.ndarray:
        """[sets, tasks]: prior variance; what stands outside a set is ignored."""
        summed, averaged, likeness, _ = self._choice
        helpers = queries.member.sum(axis=1)[:, None] - 1.0
        mean = np.where(helpers > 0, averaged / np.maximum(helpers, 1), 0.0)
        return (
            1.0
            + summed * helpers / max(len(self.tasks) - 1, 1)
            + mean
            + likeness
            + np.zeros(len(self.tasks))
        )
