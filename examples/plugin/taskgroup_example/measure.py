"""An affinity between two columns of labels."""

import numpy as np
from scipy.stats import binomtest

from taskgroup.affinity import UNDEFINED, Relation


def sign_agreement(x: np.ndarray, y: np.ndarray) -> Relation:
    """Return how often two properties lie on the same side of their medians, from -1 (never) to 1 (always).

    A constant column has no sides, and two materials always agree or disagree: there the relation is undefined.
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return UNDEFINED
    same_side = (x > np.median(x)) == (y > np.median(y))
    n_same = int(same_side.sum())
    p_value = binomtest(n_same, len(x)).pvalue
    return Relation(2 * n_same / len(x) - 1, float(p_value))
