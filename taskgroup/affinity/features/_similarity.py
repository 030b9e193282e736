import numpy as np
from numpy.typing import ArrayLike

from taskgroup.affinity.features._inputs import as_responses, evaluate
from taskgroup.errors import InputError

# Dissimilarity matrices grow with the square of the rows; these already give two million pairs.
MAX_ROWS = 2000


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    r"""Return the linear centred kernel alignment of two representations of the same rows, ``[n, d]`` and ``[n, e]``.

    .. math:: \frac{\lVert Y^\top X\rVert_F^2}{\lVert X^\top X\rVert_F\,\lVert Y^\top Y\rVert_F}

    Between 0 and 1; blind to rotation, shift and scale of either side. NaN where a side is constant.
    Kornblith et al., 2019, arXiv:1905.00414.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (x, y))
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise InputError(
            f"two representations [n, d] and [n, e] must share n, but got {a.shape} and {b.shape}"
        )
    a = a - a.mean(axis=0)
    b = b - b.mean(axis=0)
    scale = _gram_norm(a) * _gram_norm(b)
    if scale == 0:
        return float("nan")
    return float(np.linalg.norm(b.T @ a) ** 2 / scale)


def cka(features: ArrayLike, labels: ArrayLike, kind: str = "regression") -> float | np.ndarray:
    """Return `linear_cka` of the features with the labels (one-hot for classification).

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([linear_cka(x, as_responses(column, kind)) for column in y.T])

    return evaluate(core, features, labels, kind)


def rsa(features: ArrayLike, labels: ArrayLike, kind: str = "regression") -> float | np.ndarray:
    r"""Representational similarity analysis: do rows that are far apart in the features differ in the label?

    Spearman correlation, over all pairs of rows, of Euclidean feature distance with :math:`|y_i - y_j|` (regression) or
    :math:`[y_i \neq y_j]` (classification). Between -1 and 1; NaN for constant features. Above 2,000 rows an evenly
    spaced selection is used. Kriegeskorte, Mur and Bandettini, 2008, doi:10.3389/neuro.06.004.2008; for transfer
    Dwivedi and Roig, 2019, arXiv:1904.11740.

    Args:
        features: ``[n, d]``.
        labels: ``[n]`` or ``[n, T]``, NaN = missing.
        kind: ``regression`` or ``classification``.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    def ranks(values: np.ndarray) -> np.ndarray:
        centred = rankdata(values) - (len(values) + 1) / 2
        size = np.linalg.norm(centred)
        return centred / size if size > 0 else np.full(len(values), np.nan)

    def core(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        evenly_spaced = np.linspace(0, len(x) - 1, min(len(x), MAX_ROWS))
        rows = np.unique(evenly_spaced.round().astype(int))
        feature_ranks = ranks(pdist(x[rows]))
        metric = "euclidean" if kind == "regression" else "hamming"
        correlations = []
        for column in y.T:
            label_ranks = ranks(pdist(column[rows, None], metric))
            correlations.append(feature_ranks @ label_ranks)
        return np.array(correlations)

    return evaluate(core, features, labels, kind)


def _gram_norm(x: np.ndarray) -> float:
    """Return the Frobenius norm of the smaller of the two Gram matrices (they share it)."""
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    return float(np.linalg.norm(gram))
