"""Relations that involve classes: correlation ratio and Cramér's V."""

import numpy as np
from scipy.special import chdtrc, fdtrc

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def correlation_ratio(classes: np.ndarray, values: np.ndarray) -> Relation:
    """Return eta, the square root of the share of variance that lies between the classes; p of the F test.

    Fisher 1925. For two classes eta is the absolute value of the point-biserial correlation.
    classes: any [n]; values: float [n], without NaN.
    """
    kinds, member = np.unique(classes, return_inverse=True)
    if len(values) < LEAST_PAIRS or len(kinds) < 2 or np.ptp(values) == 0.0:
        return UNDEFINED
    scaled = (values - values.min()) / np.ptp(values)
    counts = np.bincount(member)
    means = np.bincount(member, weights=scaled) / counts
    between = float(counts @ (means - scaled.mean()) ** 2)
    within = float(np.sum((scaled - means[member]) ** 2))
    eta = float(np.sqrt(between / (between + within)))
    freedom_between = len(kinds) - 1
    freedom_within = len(values) - len(kinds)
    if freedom_within == 0:
        return Relation(eta, 1.0)
    if within == 0.0:
        return Relation(eta, 0.0)
    statistic = between / freedom_between / (within / freedom_within)
    return Relation(eta, float(fdtrc(freedom_between, freedom_within, statistic)))


def cramers_v(a: np.ndarray, b: np.ndarray, bias_corrected: bool = True) -> Relation:
    """Return Cramér's V of two lists of classes, between 0 and 1; p of the chi-square test without Yates' correction.

    Bias-corrected as Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    table = _contingency(a, b)
    n = table.sum()
    rows, columns = table.shape
    if n < LEAST_PAIRS or min(rows, columns) < 2:
        return UNDEFINED
    freedom = (rows - 1) * (columns - 1)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi2 = float(np.sum((table - expected) ** 2 / expected))
    p = float(chdtrc(freedom, chi2))
    phi2 = chi2 / n
    if bias_corrected:
        phi2 = max(0.0, phi2 - freedom / (n - 1))
        rows = rows - (rows - 1) ** 2 / (n - 1)
        columns = columns - (columns - 1) ** 2 / (n - 1)
    largest_phi2 = min(rows, columns) - 1
    if largest_phi2 <= 0.0:
        return UNDEFINED
    return Relation(float(min(1.0, np.sqrt(phi2 / largest_phi2))), p)


def _contingency(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how often each class of ``a`` meets each class of ``b``."""
    kinds_a, codes_a = np.unique(a, return_inverse=True)
    kinds_b, codes_b = np.unique(b, return_inverse=True)
    shape = len(kinds_a), len(kinds_b)
    counts = np.bincount(codes_a * len(kinds_b) + codes_b, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(float)
