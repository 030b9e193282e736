import numpy as np
from numpy.typing import ArrayLike

from taskgroup.affinity.features._inputs import classes, evaluate, one_hot, orthonormal


def h_score(
    features: ArrayLike, labels: ArrayLike, kind: str = "classification"
) -> float | np.ndarray:
    r"""H-score: the part of the features' variance, each direction counted alike, that lies between the classes.

    .. math:: \operatorname{tr}\!\left(\operatorname{cov}(f)^{+}\, \operatorname{cov}(E[f\,|\,y])\right)

    Between 0 and (number of classes - 1), where it also saturates as soon as d >= n - 1: use `shrunk_h_score` there.
    The pseudo-inverse makes it safe for duplicated and constant features. A regression target is cut at its
    quantiles. Bao et al., 2019, doi:10.1109/ICIP.2019.8803726.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        basis = orthonormal(x)
        return np.array([_between(basis, classes(column, kind)) for column in y.T])

    return evaluate(core, features, labels, kind)


def shrunk_h_score(
    features: ArrayLike, labels: ArrayLike, kind: str = "classification"
) -> float | np.ndarray:
    r"""H-score with a Ledoit-Wolf covariance: usable where n is not much larger than d.

    .. math:: (1-\lambda)\,\operatorname{tr}\!\left(\Sigma_\lambda^{-1}\, \operatorname{cov}(E[f\,|\,y])\right),\quad
        \Sigma_\lambda = (1-\lambda)\operatorname{cov}(f) + \lambda \tfrac{\operatorname{tr}\operatorname{cov}(f)}{d} I

    Tends to `h_score` as n grows. As published, lambda nears 1 and the score 0 for features that are white already,
    which learned features are not. Ibrahim, Ponomareva and Mazumder, 2021, arXiv:2110.06893.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=0)
        if not centred.any():
            return np.zeros(y.shape[1])
        shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
        variance, axes = np.linalg.eigh(centred.T @ centred / len(x))
        shrunk = (1 - shrinkage) * variance + shrinkage * variance.mean()
        # Directions without variance up to rounding are left out.
        in_rank = shrunk > shrunk.max() * len(shrunk) * np.finfo(float).eps
        white = centred @ axes[:, in_rank] / np.sqrt(len(x) * shrunk[in_rank])
        between = [_between(white, classes(column, kind)) for column in y.T]
        return (1 - shrinkage) * np.array(between)

    return evaluate(core, features, labels, kind)


def _between(white: np.ndarray, codes: np.ndarray) -> float:
    """Return the sum over classes of (rows in the class) x |mean of the whitened rows|^2."""
    members = one_hot(codes)
    sums = members.T @ white
    return float((sums**2 / members.sum(axis=0)[:, None]).sum())
