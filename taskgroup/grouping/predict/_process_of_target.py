"""Gaussian process of one target over networks, in features that grow as networks are added."""

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from taskgroup.grouping.predict._kernel import Rows, SkillKernel

# A network whose variance the features explain to this part adds no feature of its own.
_EXPLAINED = 1e-6
# The variances are learned too, so with few results the posterior is too sure of itself. Its variances are multiplied
# by 1 + this / number of results, much as a Student process does (Shah, Wilson, Ghahramani 2014, arXiv:1402.4306).
_UNSURE = 1.0


class TargetProcess:
    """Posterior of the standardised skill of one target.

    Each of the first ``capacity`` different networks adds a feature (a row of the Cholesky factor of the covariance),
    so up to there the process is exact. Of later networks the features explain a part, and the rest counts as noise
    (Snelson and Ghahramani 2006, "sparse Gaussian processes"). A result then costs capacity^2 operations.

    Args:
        kernel: the parts of the covariance.
        task: the column of the target.
        variances: one per part of the kernel.
        fold_variance: of the effect that a validation fold has on all networks.
        noise: variance between repeats.
        n_folds: number of folds that results come from.
        capacity: number of features at most.
    """

    def __init__(
        self,
        kernel: SkillKernel,
        task: int,
        variances: np.ndarray,
        fold_variance: float,
        noise: float,
        n_folds: int,
        capacity: int,
    ) -> None:
        self._kernel, self._task = kernel, task
        self._variances = variances
        self._noise = noise
        self._n_results = 0
        self._fold_deviation = np.sqrt(fold_variance)
        self._n_folds = n_folds
        self._capacity = capacity
        self._basis: Rows | None = None
        self._factor = np.zeros((capacity, capacity))
        self._n_features = 0
        # Weights of the features have a standard normal prior; folds come first, so that networks can be appended.
        size = n_folds + capacity
        self._precision = np.eye(size)
        self._projected = np.zeros(size)
        self._solved: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def inflation(self) -> float:
        """Factor on all variances, for what few results leave unsure of the learned ones."""
        return 1.0 + _UNSURE / max(self._n_results, 1)

    @property
    def noise(self) -> float:
        """Variance between repeats."""
        return self._noise * self.inflation

    @property
    def fold_variance(self) -> float:
        """Variance of the effect of a fold."""
        return float(self._fold_deviation**2)

    def add(self, rows: Rows, folds: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
        """Add results: for each network and fold the sum of standardised values and their number."""
        self._n_results += int(counts.sum())
        features = self._features(rows)
        size = self._n_folds + self._n_features
        whole = np.zeros((len(rows), size))
        whole[np.arange(len(rows)), folds] = self._fold_deviation
        whole[:, self._n_folds :] = features
        # What the features miss of a network's skill acts as noise that repeats do not remove.
        missed = self._kernel.diagonal(rows, self._task, self._variances) - (features**2).sum(
            axis=1
        )
        weights = 1.0 / (self._noise / counts + np.maximum(missed, 0.0))
        self._precision[:size, :size] += (whole * weights[:, None]).T @ whole
        self._projected[:size] += whole.T @ (weights * sums / counts)
        self._solved = None

    def expect(self, rows: Rows, fold: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return mean [networks] and covariance [networks, networks] of the skill expected with new seeds.

        Without ``fold`` the effect of folds is left out; a fold of -1 is a new one, whose effect is not known.
        """
        features = self._features(rows)
        whole = np.zeros((len(rows), self._n_folds + self._n_features))
        whole[:, self._n_folds :] = features
        prior = self._kernel.matrix(rows, rows, self._task, self._variances)
        if fold is not None:
            prior = prior + self.fold_variance
            if fold >= 0:
                whole[:, fold] = self._fold_deviation
        mean_weights, factor = self._posterior()
        reduced = solve_triangular(factor, whole.T, lower=True, check_finite=False)
        covariance = prior - whole @ whole.T + reduced.T @ reduced
        return whole @ mean_weights, self.inflation * covariance

    def expect_mean(self, rows: Rows) -> np.ndarray:
        """Return the mean of ``expect`` without a fold, [networks]."""
        mean_weights, _ = self._posterior()
        return self._features(rows) @ mean_weights[self._n_folds :]

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of the weights, and the Cholesky factor of their precision."""
        if self._solved is None:
            size = self._n_folds + self._n_features
            factor = np.linalg.cholesky(self._precision[:size, :size])
            mean = cho_solve((factor, True), self._projected[:size])
            self._solved = mean, factor
        return self._solved

    def _features(self, rows: Rows) -> np.ndarray:
        """Return the features [networks, features] of any networks."""
        n = self._n_features
        if n == 0:
            return np.zeros((len(rows), 0))
        basis = self._basis[np.arange(n)]
        across = self._kernel.matrix(basis, rows, self._task, self._variances)
        factor = self._factor[:n, :n]
        return solve_triangular(factor, across, lower=True, check_finite=False).T

    def extend(self, rows: Rows) -> None:
        """Give different networks features of their own, in this order, while there is room for any."""
        room = self._capacity - self._n_features
        if room == 0:
            return
        known = self._n_features
        # Some networks are explained by others and need no feature, so look at more than there is room for.
        candidates = _joined(self._basis, rows[np.arange(min(len(rows), 2 * room))])
        full = self._kernel.matrix(candidates, candidates, self._task, self._variances)
        chosen = list(range(known))
        for row in range(known, len(candidates)):
            if len(chosen) < self._capacity and self._append(full[chosen, row], full[row, row]):
                chosen.append(row)
        self._basis = candidates[np.array(chosen, dtype=int)]
        self._solved = None

    def _append(self, across: np.ndarray, variance: float) -> bool:
        """Append a row to the Cholesky factor unless its network is explained by the others."""
        n = self._n_features
        factor = self._factor[:n, :n]
        projected = solve_triangular(factor, across, lower=True, check_finite=False)
        left = variance - projected @ projected
        if left <= _EXPLAINED * variance:
            return False
        self._factor[n, :n] = projected
        self._factor[n, n] = np.sqrt(left)
        self._n_features += 1
        return True


def _joined(first: Rows | None, second: Rows) -> Rows:
    if first is None:
        return second
    return Rows(
        np.concatenate([first.member, second.member]), np.concatenate([first.codes, second.codes])
    )
