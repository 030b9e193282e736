"""Distance correlation: zero only for independent targets, so that relations which are not monotone are seen as well.

- Of single numbers it needs no distance matrix: sorting and counting by blocks takes O(n log² n) time and O(n)
  memory, so 200 targets or 100,000 materials are no trouble (idea: Huo and Székely 2016,
  doi:10.1080/00401706.2015.1054435).
- The p-value is analytic, which a permutation test of thousands of pairs could not be.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation


def distance_correlation(x: np.ndarray, y: np.ndarray) -> Relation:
    """Return dCor = sqrt(dCov²(x, y) / sqrt(dCov²(x, x) dCov²(y, y))), between 0 and 1.

    Székely, Rizzo and Bakirov 2007, doi:10.1214/009053607000000505. The p-value is the chi-square test of its
    bias-corrected square, valid and a little conservative (Shen, Panda and Vogelstein 2022,
    doi:10.1080/10618600.2021.1938585).
    x, y: float [n], without NaN.
    """
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    x = (x - x.min()) / np.ptp(x)
    y = (y - y.min()) / np.ptp(y)
    sums = _distance_sums(x, y), _distance_sums(x, x), _distance_sums(y, y)
    n = len(x)
    covariance, variance_x, variance_y = (each.centred(n) for each in sums)
    value = float(np.sqrt(max(covariance, 0.0) / np.sqrt(variance_x * variance_y)))
    return Relation(min(value, 1.0), _p_value(sums, n))


@dataclass(frozen=True)
class _DistanceSums:
    """Sums over the distance matrices a and b of two columns.

    ``products`` is the sum of a_ij b_ij, ``of_rows`` that of a_i. b_i., ``of_totals`` is a.. b.. .
    """

    products: float
    of_rows: float
    of_totals: float

    def centred(self, n: int) -> float:
        """Return the squared distance covariance: the mean product of the doubly centred matrices."""
        return self.products / n**2 - 2.0 * self.of_rows / n**3 + self.of_totals / n**4

    def unbiased(self, n: int) -> float:
        """Return the sum of products of the U-centred matrices."""
        return self.products - 2.0 * self.of_rows / (n - 2) + self.of_totals / ((n - 1) * (n - 2))


def _p_value(sums: tuple[_DistanceSums, _DistanceSums, _DistanceSums], n: int) -> float:
    """Return p of the chi-square test of the unbiased (U-centred) distance correlation."""
    # The unbiased estimate exists for four and more materials.
    if n < 4:
        return 1.0
    covariance, variance_x, variance_y = (each.unbiased(n) for each in sums)
    if variance_x <= 0.0 or variance_y <= 0.0:
        return 1.0
    correlation = covariance / np.sqrt(variance_x * variance_y)
    return float(chdtrc(1, max(n * correlation + 1.0, 0.0)))


def _distance_sums(x: np.ndarray, y: np.ndarray) -> _DistanceSums:
    rows_x, rows_y = _row_sums(x), _row_sums(y)
    all_products = len(x) * float((x - x.mean()) @ (y - y.mean()))
    concordant = all_products if y is x else _concordant(x, y)
    return _DistanceSums(
        products=2.0 * (2.0 * concordant - all_products),
        of_rows=float(rows_x @ rows_y),
        of_totals=float(rows_x.sum() * rows_y.sum()),
    )


def _row_sums(x: np.ndarray) -> np.ndarray:
    """Return sum_j |x_i - x_j| for every i, from sorted cumulative sums."""
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    n = len(x)
    below = np.cumsum(ordered) - ordered
    above = ordered.sum() - below - ordered
    rank = np.arange(n)
    sums = np.empty(n)
    sums[order] = ordered * rank - below + above - ordered * (n - 1 - rank)
    return sums


def _concordant(x: np.ndarray, y: np.ndarray) -> float:
    """Return the sum of (x_i - x_j) (y_i - y_j) over the pairs with x_j <= x_i and y_j <= y_i, each pair once.

    A merge sort from below: with x sorted, blocks of doubled width meet, and each element of the right half takes what
    stands before it in y from the left half. Padding to a power of two carries weight 0.
    """
    order = np.argsort(x, kind="stable")
    n = len(x)
    size = 1 << (n - 1).bit_length()
    u, v, weight = np.zeros((3, size))
    u[:n] = x[order]
    v[:n] = y[order]
    weight[:n] = 1.0
    moments = weight * np.stack([np.ones(size), u, v, u * v])
    total = 0.0
    width = 1
    while width < size:
        # Sort each block of two halves by y; the left half holds the smaller x.
        rank = np.argsort(v.reshape(-1, 2 * width), axis=1, kind="stable")
        block_starts = 2 * width * np.arange(len(rank))[:, None]
        places = (rank + block_starts).ravel()
        is_right = (rank >= width).ravel()
        left = np.where(is_right, 0.0, moments[:, places]).reshape(4, -1, 2 * width)
        # What stands in the left half before each element of the right half.
        count, sum_u, sum_v, sum_uv = left.cumsum(axis=2).reshape(4, -1)[:, is_right]
        one, own_u, own_v, own_uv = moments[:, places[is_right]]
        total += float(np.sum(own_uv * count - own_v * sum_u - own_u * sum_v + one * sum_uv))
        width *= 2
    return total
