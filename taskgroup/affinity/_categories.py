"""Relations that involve classes: correlation ratio and Cramér's V."""

import numpy as np
from scipy.special import chdtrc, fdtrc

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def correlation_ratio(classes: np.ndarray, values: np.ndarray) -> Relation:
    """eta: square root of the share of the variance of values that lies between the classes; p of the F test.

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
    classes_freedom, rest = len(kinds) - 1, len(values) - len(kinds)
    if rest == 0:
        return Relation(eta, 1.0)
    p = (
        float(fdtrc(classes_freedom, rest, between / classes_freedom / (within / rest)))
        if within > 0.0
        else 0.0
    )
    return Relation(eta, p)


def cramers_v(a: np.ndarray, b: np.ndarray, bias_corrected: bool = True) -> Relation:
    """Cramér's V of two lists of classes, between 0 and 1; p of Pearson's chi-square test without Yates' correction.

    Bias-corrected as Bergsma 2013, doi:10.1016/j.jkss.2012.10.002.
    """
    table = _contingency(a, b)
    n, (rows, columns) = table.sum(), table.shape
    if n < LEAST_PAIRS or min(rows, columns) < 2:
        return UNDEFINED
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    chi2 = float(np.sum((table - expected) ** 2 / expected))
    p = float(chdtrc((rows - 1) * (columns - 1), chi2))
    phi2 = chi2 / n
    if bias_corrected:
        phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
        rows, columns = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return Relation(float(min(1.0, np.sqrt(phi2 / least))), p) if least > 0.0 else UNDEFINED


def _contingency(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (kinds_a, in_a), (kinds_b, in_b) = (np.unique(values, return_inverse=True) for values in (a, b))
    counts = np.bincount(in_a * len(kinds_b) + in_b, minlength=len(kinds_a) * len(kinds_b))
    return counts.reshape(len(kinds_a), len(kinds_b)).astype(float)
