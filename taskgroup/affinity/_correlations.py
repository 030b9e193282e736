"""Pearson, Spearman and Kendall: signed measures of linear and of monotone relation."""

import numpy as np
from scipy.special import stdtr
from scipy.stats import kendalltau, rankdata

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def pearson(x: np.ndarray, y: np.ndarray) -> Relation:
    """Return Pearson's r; p from Student's t with n - 2 degrees of freedom (exact for normal data).

    x, y: float [n], without NaN.
    """
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    r = float(np.clip(_unit(x) @ _unit(y), -1.0, 1.0))
    if abs(r) == 1.0:
        return Relation(r, 0.0)
    degrees = len(x) - 2
    statistic = abs(r) * np.sqrt(degrees / (1.0 - r * r))
    return Relation(r, 2.0 * float(stdtr(degrees, -statistic)))


def spearman(x: np.ndarray, y: np.ndarray) -> Relation:
    """Return Spearman's rho: Pearson's r of the ranks, ties sharing their mean rank; p as for Pearson's r."""
    return pearson(rankdata(x), rankdata(y))


def kendall(x: np.ndarray, y: np.ndarray) -> Relation:
    """Return Kendall's tau-b; p exact for few pairs without ties, else from its normal limit (scipy)."""
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    tau, p = kendalltau(x, y)
    return Relation(float(tau), float(p))


def _unit(x: np.ndarray) -> np.ndarray:
    """Return x centred and of length 1; it is scaled first, so that neither huge nor tiny units overflow."""
    scaled = (x - x.min()) / np.ptp(x)
    centred = scaled - scaled.mean()
    return centred / np.linalg.norm(centred)
