"""Linear predictors: ridge on who is in the set, and ridge on what measured affinities leave unexplained."""

from collections.abc import Sequence

import numpy as np

from taskgroup.errors import GroupingError
from taskgroup.grouping.predict._base import GainPredictor, SetArrays

# Prior standard deviations of the weights that are compared by the evidence.
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
# Share of the variance over sets that no linear model of the set explains, measurement noise included.
_REST = 0.55
# Costs below this count as this one, so that a network that costs nothing has a logarithm.
_LEAST_COST = 1e-3


class _Bayesian:
    """Linear regression with a normal prior on the weights, its width chosen by the evidence."""

    def __init__(self, features: np.ndarray, values: np.ndarray) -> None:
        fits = [self._fit(features, values, strength**2) for strength in _STRENGTHS]
        best = max(fits, key=lambda fit: fit[0])
        _, self.mean, self.covariance = best

    @staticmethod
    def _fit(
        features: np.ndarray, values: np.ndarray, prior: float
    ) -> tuple[float, np.ndarray, np.ndarray]:
        n, n_features = features.shape
        total = prior * features @ features.T + _REST * np.eye(n)
        _, log_determinant = np.linalg.slogdet(total)
        weighted = np.linalg.solve(total, values)
        mean = prior * features.T @ weighted
        explained = prior * features.T @ np.linalg.solve(total, features)
        covariance = prior * (np.eye(n_features) - explained)
        evidence = float(-0.5 * (values @ weighted + log_determinant))
        return evidence, mean, covariance

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variance = np.einsum("sf,fg,sg->s", features, self.covariance, features) + _REST
        return features @ self.mean, np.sqrt(np.maximum(variance, 0.0))


class RidgeOnSets(GainPredictor):
    """Ridge regression of each task's results on the helpers in the set, its size and the network's cost.

    Bayesian: the width of the prior is chosen by the evidence, the spread is that of the posterior plus what is left.
    """

    def _learn(self, trained: SetArrays) -> None:
        standard = self._standard(trained.values)
        self._models = []
        for task in range(len(self.tasks)):
            rows = np.isfinite(standard[:, task])
            self._models.append(_Bayesian(set_features(trained, task)[rows], standard[rows, task]))

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        mean = np.empty(queries.member.shape)
        spread = np.empty(queries.member.shape)
        for task, model in enumerate(self._models):
            mean[:, task], spread[:, task] = model.predict(set_features(queries, task))
        return self.level + self.spread * mean, self.spread * spread


def set_features(arrays: SetArrays, task: int) -> np.ndarray:
    """Return [sets, tasks + 2]: one, the helpers, log2 of the cost relative to one."""
    cost = np.log2(np.maximum(arrays.cost, _LEAST_COST))
    return np.column_stack([np.ones(len(cost)), arrays.helpers(task), cost])


class BoostedAffinity(RidgeOnSets):
    """Measured affinities first, ridge on the set for what they leave: the two steps of ETAP, arXiv:2602.18591.

    Args:
        names: the tasks in the order of the matrix.
        affinity: [affected, helper], as `affinity_matrix` or gradients give it; larger = helps more, or the other way
            round: the sign is learned.

    The first step is a piecewise linear spline of the mean affinity of the helpers, shared by all tasks.
    """

    def __init__(self, names: Sequence[str], affinity: np.ndarray) -> None:
        self._names = list(names)
        self._affinity = np.asarray(affinity, dtype=float)
        if self._affinity.shape != (len(self._names),) * 2:
            raise GroupingError(
                f"affinity must be square, a row per task, found {self._affinity.shape} for {len(names)} tasks"
            )

    def _learn(self, trained: SetArrays) -> None:
        for task in self.tasks:
            if task not in self._names:
                raise GroupingError(
                    f"affinity must name every trained task, found none of '{task}'"
                )
        standard = self._standard(trained.values)
        known = np.isfinite(standard)
        scores = self._mean_affinity(trained)
        self._knots = np.quantile(scores[known], [1 / 3, 2 / 3])
        self._spline = _Bayesian(self._basis(scores[known]), standard[known])
        first = self.level + self.spread * self._first(trained)
        residual = trained.values - first
        super()._learn(
            SetArrays(trained.tasks, trained.member, trained.cost, self.level + residual)
        )

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = super()._expect(queries)
        return mean + self.spread * self._first(queries), spread

    def _first(self, arrays: SetArrays) -> np.ndarray:
        scores = self._mean_affinity(arrays)
        return self._spline.predict(self._basis(scores.ravel()))[0].reshape(scores.shape)

    def _basis(self, scores: np.ndarray) -> np.ndarray:
        beyond_knots = [np.maximum(scores - knot, 0) for knot in self._knots]
        return np.column_stack([np.ones_like(scores), scores, *beyond_knots])

    def _mean_affinity(self, arrays: SetArrays) -> np.ndarray:
        """Return [sets, tasks]: mean affinity of the helpers to the task, in spreads over pairs; 0 alone."""
        place = [self._names.index(task) for task in self.tasks]
        matrix = self._affinity[np.ix_(place, place)]
        apart = ~np.eye(len(place), dtype=bool)
        off = matrix[apart] if len(place) > 1 else np.zeros(1)
        scaled = (matrix - off.mean()) / (off.std() or 1.0)
        columns = []
        for task in range(len(place)):
            helpers = arrays.helpers(task)
            of_others = np.where(apart[task], scaled[task], 0.0)
            n_helpers = np.maximum(helpers.sum(axis=1), 1)
            columns.append(helpers @ of_others / n_helpers)
        return np.stack(columns, axis=1)
