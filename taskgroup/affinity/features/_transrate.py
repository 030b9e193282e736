import numpy as np
from numpy.typing import ArrayLike

from taskgroup.affinity.features._inputs import classes, evaluate

PRECISION = 1e-4


def transrate(
    features: ArrayLike, labels: ArrayLike, kind: str = "classification"
) -> float | np.ndarray:
    r"""TransRate: nats saved in coding the features to a given precision once the class is known.

    .. math:: R(Z) - \sum_c \tfrac{n_c}{n} R(Z_c),\qquad
        R(Z) = \tfrac12 \log\det\!\left(I + \tfrac{1}{n\,\varepsilon} Z^\top Z\right),\quad \varepsilon = 10^{-4}

    with the features centred once (not within a class, as published) and scaled to a mean squared row norm of 1, which
    makes the number independent of the features' scale. At least 0. A regression target is cut at its quantiles.
    Huang et al., 2022, arXiv:2106.09362.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        z = x - x.mean(axis=0)
        z = z / (np.sqrt((z**2).sum(axis=1).mean()) or 1.0)
        whole = _rate(z)
        return np.array([whole - _rate_within(z, classes(column, kind)) for column in y.T])

    return evaluate(core, features, labels, kind)


def _rate(z: np.ndarray) -> float:
    s = np.linalg.svd(z, compute_uv=False)
    return float(0.5 * np.log1p(s**2 / (len(z) * PRECISION)).sum())


def _rate_within(z: np.ndarray, codes: np.ndarray) -> float:
    parts = [z[codes == c] for c in np.unique(codes)]
    return sum(len(part) / len(z) * _rate(part) for part in parts)
