"""Distance correlation: zero only for independent targets, so that relations which are not monotone are seen as well.

- Of single numbers it needs no distance matrix: sorting and counting by blocks takes O(n log² n) time and O(n)
  memory, so 200 targets or 100,000 materials are no trouble (idea: Huo and Székely 2016,
  doi:10.1080/00401706.2015.1054435).
- The p-value is analytic, which a permutation test of thousands of pairs could not be.
"""

import numpy as np
from scipy.special import chdtrc

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def distance_correlation(x: np.ndarray, y: np.ndarray) -> Relation:
    """dCor = sqrt(dCov²(x, y) / sqrt(dCov²(x, x) dCov²(y, y))), between 0 and 1.

    Székely, Rizzo and Bakirov 2007, doi:10.1214/009053607000000505. The p-value is the chi-square test of its
    bias-corrected square, valid and a little conservative (Shen, Panda and Vogelstein 2022,
    doi:10.1080/10618600.2021.1938585).
    x, y: float [n], without NaN.
    """
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    x, y = ((values - values.min()) / np.ptp(values) for values in (x, y))
    sums = [_distance_sums(a, b) for a, b in ((x, y), (x, x), (y, y))]
    n = len(x)
    between, own, other = (s1 / n**2 - 2.0 * s2 / n**3 + s3 / n**4 for s1, s2, s3 in sums)
    value = float(np.sqrt(max(between, 0.0) / np.sqrt(own * other)))
    return Relation(min(value, 1.0), _p_value(sums, n))


def _p_value(sums: list[tuple[float, float, float]], n: int) -> float:
    """Chi-square test of the unbiased (U-centred) distance correlation; needs at least four materials."""
    if n < 4:
        return 1.0
    between, own, other = (
        s1 - 2.0 * s2 / (n - 2) + s3 / ((n - 1) * (n - 2)) for s1, s2, s3 in sums
    )
    if own <= 0.0 or other <= 0.0:
        return 1.0
    return float(chdtrc(1, max(n * between / np.sqrt(own * other) + 1.0, 0.0)))


def _distance_sums(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Of the distance matrices a of x and b of y: sum of a_ij b_ij, sum of a_i. b_i., and a.. b.. ."""
    rows_x, rows_y = _row_sums(x), _row_sums(y)
    everything = len(x) * float((x - x.mean()) @ (y - y.mean()))
    concordant = everything if y is x else _concordant(x, y)
    products = 2.0 * (2.0 * concordant - everything)
    return products, float(rows_x @ rows_y), float(rows_x.sum() * rows_y.sum())


def _row_sums(x: np.ndarray) -> np.ndarray:
    """sum_j |x_i - x_j| for every i, from sorted cumulative sums."""
    order = np.argsort(x, kind="stable")
    ordered, n = x[order], len(x)
    below = np.cumsum(ordered) - ordered
    above = ordered.sum() - below - ordered
    rank = np.arange(n)
    sums = np.empty(n)
    sums[order] = ordered * rank - below + above - ordered * (n - 1 - rank)
    return sums


def _concordant(x: np.ndarray, y: np.ndarray) -> float:
    """Sum of (x_i - x_j) (y_i - y_j) over the pairs with x_j <= x_i and y_j <= y_i, each pair once.

    A merge sort from below: with x sorted, blocks of doubled width meet, and each element of the right half takes what
    stands before it in y from the left half. Padding to a power of two carries weight 0.
    """
    order = np.argsort(x, kind="stable")
    size = 1 << (len(x) - 1).bit_length()
    u, v, weight = np.zeros((3, size))
    u[: len(x)], v[: len(x)], weight[: len(x)] = x[order], y[order], 1.0
    moments = weight * np.stack([np.ones(size), u, v, u * v])
    total, width = 0.0, 1
    while width < size:
        rank = np.argsort(v.reshape(-1, 2 * width), axis=1, kind="stable")
        at = (rank + 2 * width * np.arange(len(rank))[:, None]).ravel()
        right = (rank >= width).ravel()
        left = np.where(right, 0.0, moments[:, at]).reshape(4, -1, 2 * width)
        count, sum_u, sum_v, sum_uv = left.cumsum(axis=2).reshape(4, -1)[:, right]
        one, mine_u, mine_v, mine_uv = moments[:, at[right]]
        total += float(np.sum(mine_uv * count - mine_v * sum_u - mine_u * sum_v + one * sum_uv))
        width *= 2
    return total
