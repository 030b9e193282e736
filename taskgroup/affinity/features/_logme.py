import numpy as np
from numpy.typing import ArrayLike

from taskgroup.affinity.features._inputs import as_responses, evaluate


def logme(features: ArrayLike, labels: ArrayLike, kind: str = "regression") -> float | np.ndarray:
    r"""Logarithm of maximum evidence: how probable the labels are under a Bayesian linear model on the features.

    .. math:: \max_{\alpha,\beta}\ \tfrac1n \log \int p(y\,|\,F w, \beta^{-1})\, p(w\,|\,0, \alpha^{-1})\, dw

    Regression targets are taken as they are (no intercept is added: centre features and labels where the mean carries
    no meaning); a classification target is the mean over its one-hot columns. Nats per row, no bound on either side.
    You et al., 2021, arXiv:2102.11005.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        responses = [as_responses(column, kind) for column in y.T]
        evidence, _, _ = maximum_evidence(x, np.concatenate(responses, axis=1))
        ends = np.cumsum([r.shape[1] for r in responses])[:-1]
        return np.array([part.mean() for part in np.split(evidence, ends)])

    return evaluate(core, features, labels, kind)


def maximum_evidence(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Largest evidence per row of each column of ``y``, with its alpha and beta, each ``[t]``.

    For a fixed ratio :math:`u = \alpha / \beta` the best beta is known in closed form, so the evidence is a function of
    one number: a grid over 24 decades finds the best basin, five zooms refine it. Unlike the usual fixed-point
    iteration this cannot stop at a local maximum, and all columns share one singular value decomposition.
    """
    n = len(x)
    left, s, _ = np.linalg.svd(x, full_matrices=False)
    s2 = s**2
    explained = (left.T @ y) ** 2
    total = (y**2).sum(axis=0)
    # A perfect fit stays finite.
    unexplained = np.maximum(total - explained.sum(axis=0), 1e-12 * total)

    def evidence(log_u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shrink = 1 / (1 + s2[:, None, None] * np.exp(-log_u))
        energy = unexplained + (explained[:, None, :] * shrink).sum(axis=0)
        fit = 0.5 * (np.log(n / energy) - 1 - np.log(2 * np.pi))
        volume = 0.5 * np.log(shrink).sum(axis=0) / n
        return fit + volume, n / energy

    columns = np.arange(y.shape[1])
    scale = np.log(s2.max(initial=0.0) or 1.0)
    centre, half = np.full(y.shape[1], scale), 12 * np.log(10.0)
    for _ in range(6):
        grid = centre + np.linspace(-half, half, 129)[:, None]
        value, beta = evidence(grid)
        best = value.argmax(axis=0)
        centre, half = grid[best, columns], half / 32
    return value[best, columns], np.exp(centre) * beta[best, columns], beta[best, columns]
