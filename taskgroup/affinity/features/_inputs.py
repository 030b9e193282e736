"""What every metric does first: check shapes once, drop rows without a label, answer several targets at a time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from taskgroup.errors import InputError

KINDS = ("regression", "classification")
Core = Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate(core: Core, features: ArrayLike, labels: ArrayLike, kind: str) -> float | np.ndarray:
    """Run ``core(features [m, d], labels [m, t]) -> [t]`` once for each set of targets labelled on the same rows.

    ``labels`` is ``[n]`` (answer: a float) or ``[n, T]`` (answer: ``[T]``); NaN is a missing label. A target with fewer
    than three labels, or with one value only, gets NaN: nothing can be said about it.
    """
    x, y = checked(features, labels, kind)
    known = ~np.isnan(y)
    result = np.full(y.shape[1], np.nan)
    useful = [
        t for t in range(y.shape[1]) if known[:, t].sum() >= 3 and np.ptp(y[known[:, t], t]) > 0
    ]
    for rows in {known[:, t].tobytes(): known[:, t] for t in useful}.values():
        columns = [t for t in useful if np.array_equal(known[:, t], rows)]
        result[columns] = core(x[rows], y[np.ix_(rows, columns)])
    return float(result[0]) if np.ndim(labels) == 1 else result


def checked(features: ArrayLike, labels: ArrayLike, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features as float64 ``[n, d]`` and labels as float64 ``[n, T]``, or an `InputError` that says what is wrong."""
    x = np.asarray(features, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}")
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise InputError(
            f"features [n, d] and labels [n] or [n, T] must share n, but got {x.shape} and {y.shape}"
        )
    if not np.isfinite(x).all():
        raise InputError(
            f"features must be finite, but {int((~np.isfinite(x)).sum())} values are not"
        )
    return x, y.reshape(len(y), -1)


def standardised(features: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and variance 1; a constant column becomes zero instead of noise divided by nothing."""
    centred = features - features.mean(axis=0)
    spread = centred.std(axis=0)
    constant = spread <= 1e-12 * np.abs(features).max(axis=0, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def orthonormal(features: np.ndarray) -> np.ndarray:
    """An orthonormal basis ``[n, rank]`` of the span of the centred columns; duplicates and constants add none."""
    u, s, _ = np.linalg.svd(standardised(features), full_matrices=False)
    return u[:, s > s.max(initial=0.0) * max(features.shape) * np.finfo(float).eps]


def classes(labels: np.ndarray, kind: str) -> np.ndarray:
    """Class codes ``0..C-1`` of one target ``[n]``; a regression target is cut at its quantiles (at most ten bins)."""
    if kind == "regression":
        bins = int(np.clip(len(labels) // 10, 2, 10))
        edges = np.unique(np.quantile(labels, np.linspace(0, 1, bins + 1)[1:-1]))
        labels = np.searchsorted(edges, labels, side="left")
    return np.unique(labels, return_inverse=True)[1]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Indicator matrix ``[n, C]`` of class codes ``[n]``."""
    return np.eye(int(codes.max()) + 1)[codes]


def as_responses(labels: np.ndarray, kind: str) -> np.ndarray:
    """One target ``[n]`` as columns to be fitted: itself, or one indicator column a class."""
    return one_hot(classes(labels, kind)) if kind == "classification" else labels[:, None]
