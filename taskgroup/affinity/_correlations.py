"""Pearson, Spearman and Kendall: signed measures of linear and of monotone relation."""

import numpy as np
from scipy.special import stdtr
from scipy.stats import kendalltau, rankdata

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def pearson(x: np.ndarray, y: np.ndarray) -> Relation:
    """Pearson's r; p from Student's t with n - 2 degrees of freedom (exact for normal data).

    x, y: float [n], without NaN.
    """
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    u, v = _unit(x), _unit(y)
    r = float(np.clip(u @ v, -1.0, 1.0))
    degrees = len(x) - 2
    tail = (
        float(stdtr(degrees, -abs(r) * np.sqrt(degrees / (1.0 - r * r)))) if abs(r) < 1.0 else 0.0
    )
    return Relation(r, 2.0 * tail)


def spearman(x: np.ndarray, y: np.ndarray) -> Relation:
    """Spearman's rho: Pearson's r of the ranks (ties share their mean rank); p as there."""
    return pearson(rankdata(x), rankdata(y))


def kendall(x: np.ndarray, y: np.ndarray) -> Relation:
    """Kendall's tau-b; p exact for few pairs without ties, else from its normal limit (scipy)."""
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    tau, p = kendalltau(x, y)
    return Relation(float(tau), float(p))


def _unit(x: np.ndarray) -> np.ndarray:
    """x centred and of length 1; scaled first, so that neither huge nor tiny units overflow."""
    scaled = (x - x.min()) / np.ptp(x)
    centred = scaled - scaled.mean()
    return centred / np.linalg.norm(centred)
