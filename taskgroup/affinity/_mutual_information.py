"""Mutual information of two continuous targets by nearest neighbours, with an exact test.

Mutual information does not change under monotone transforms, so both targets are first replaced by a normal sample in
the order of their ranks (seeded; ties broken at random). The estimate then does not depend on units or
outliers, and its distribution without a relation depends on the number of materials only, so one simulation serves
every pair.
"""

from functools import lru_cache

import numpy as np
from scipy.spatial import KDTree
from scipy.special import digamma

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation

NEIGHBOURS = 3
PERMUTATIONS = 999
MOST_ROWS = 2000
"""At most so many materials are drawn (seeded): the time of the test grows with them, its power hardly."""


def mutual_information(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Return mutual information in nats, never negative.

    Estimator 1 of Kraskov, Stögbauer and Grassberger with 3 neighbours, doi:10.1103/PhysRevE.69.066138.
    For a bivariate normal pair it is -log(1 - rho²)/2.
    x, y: float [n], without NaN, n > 3; NaN where either is constant or there are fewer.
    """
    if len(x) <= max(LEAST_PAIRS, NEIGHBOURS) or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return float("nan")
    streams = np.random.default_rng(seed).spawn(2)
    normal_x = _normal_in_order(x, streams[0])
    normal_y = _normal_in_order(y, streams[1])
    return max(0.0, _ksg(normal_x, normal_y))


def information_correlation(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Relation:
    """Mutual information I on the scale of a correlation: sqrt(1 - exp(-2 I)), which is |rho| for normal pairs.

    Linfoot 1957, doi:10.1016/S0019-9958(57)90116-X. The p-value is that of a permutation test with 999 draws, so it is
    never below 0.001.
    """
    if len(x) > MOST_ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(len(x), MOST_ROWS, replace=False))
        x, y = x[drawn], y[drawn]
    information = mutual_information(x, y, seed)
    if np.isnan(information):
        return UNDEFINED
    null = _null_distribution(_grid_below(len(x)))
    n_exceeding = PERMUTATIONS - int(np.searchsorted(null, information, side="left"))
    p = (1 + n_exceeding) / (1 + PERMUTATIONS)
    return Relation(float(np.sqrt(1.0 - np.exp(-2.0 * information))), p)


def _ksg(x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    distance = KDTree(np.column_stack([x, y])).query(
        np.column_stack([x, y]), k=NEIGHBOURS + 1, p=np.inf
    )[0][:, -1]
    near_x = digamma(_strictly_within(x, distance)).mean()
    near_y = digamma(_strictly_within(y, distance)).mean()
    return float(digamma(NEIGHBOURS) + digamma(n) - (near_x + near_y))


def _strictly_within(values: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return how many values, itself among them, lie nearer to each value than its distance."""
    ordered = np.sort(values)
    # The neighbour that set the distance must stay outside whatever the rounding.
    radius = distance * (1.0 - 1e-10)
    first = np.searchsorted(ordered, values - radius, side="left")
    last = np.searchsorted(ordered, values + radius, side="right")
    return np.maximum(last - first, 1)


def _normal_in_order(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = np.lexsort((rng.random(len(values)), values))
    normal = np.empty(len(values))
    normal[order] = np.sort(rng.standard_normal(len(values)))
    return normal


def _grid_below(n: int) -> int:
    """Return n rounded down to a coarse grid: the distribution there is a little wider, which is on the safe side."""
    step = max(1, 2 ** (n.bit_length() - 4))
    return max(n // step * step, NEIGHBOURS + 1)


@lru_cache(maxsize=64)
def _null_distribution(n: int) -> np.ndarray:
    """Return sorted estimates for unrelated pairs of n materials; the same in every process."""
    rng = np.random.default_rng(n)
    estimates = []
    for _ in range(PERMUTATIONS):
        x, y = rng.standard_normal((2, n))
        estimates.append(max(0.0, _ksg(x, y)))
    return np.sort(estimates)
