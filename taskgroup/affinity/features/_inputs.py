"""First steps of all metrics: check shapes once, drop rows without a label, answer several targets at a time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from taskgroup.errors import InputError

KINDS = ("regression", "classification")
# Nothing can be said about a target with fewer labels.
_LEAST_LABELS = 3
# A column that varies less than this part of its largest entry is constant up to rounding.
_CONSTANT = 1e-12
Core = Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate(core: Core, features: ArrayLike, labels: ArrayLike, kind: str) -> float | np.ndarray:
    """Run ``core(features [m, d], labels [m, t]) -> [t]`` once for each set of targets labelled on the same rows.

    ``labels`` is ``[n]`` (answer: a float) or ``[n, T]`` (answer: ``[T]``); NaN is a missing label. A target with fewer
    than three labels, or with one value only, gets NaN: nothing can be said about it.
    """
    x, y = checked(features, labels, kind)
    known = ~np.isnan(y)
    result = np.full(y.shape[1], np.nan)
    # Targets that are labelled on the same rows share the work on the features.
    columns_by_rows: dict[bytes, list[int]] = {}
    for column in range(y.shape[1]):
        labelled = y[known[:, column], column]
        if len(labelled) >= _LEAST_LABELS and np.ptp(labelled) > 0:
            columns_by_rows.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in columns_by_rows.values():
        rows = known[:, columns[0]]
        result[columns] = core(x[rows], y[np.ix_(rows, columns)])
    return float(result[0]) if np.ndim(labels) == 1 else result


def checked(features: ArrayLike, labels: ArrayLike, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features as float64 ``[n, d]`` and labels as float64 ``[n, T]``. Raises InputError."""
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
    """Return columns with mean 0 and variance 1; a constant column becomes zero instead of noise divided by nothing."""
    centred = features - features.mean(axis=0)
    spread = centred.std(axis=0)
    constant = spread <= _CONSTANT * np.abs(features).max(axis=0, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def orthonormal(features: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis ``[n, rank]`` of the centred columns; duplicates and constants add none."""
    u, s, _ = np.linalg.svd(standardised(features), full_matrices=False)
    # The usual numerical rank, as in numpy.linalg.matrix_rank.
    smallest = s.max(initial=0.0) * max(features.shape) * np.finfo(float).eps
    return u[:, s > smallest]


def classes(labels: np.ndarray, kind: str) -> np.ndarray:
    """Return class codes ``0..C-1`` of one target ``[n]``; regression is cut at quantiles (ten bins at most)."""
    if kind == "regression":
        bins = int(np.clip(len(labels) // 10, 2, 10))
        edges = np.unique(np.quantile(labels, np.linspace(0, 1, bins + 1)[1:-1]))
        labels = np.searchsorted(edges, labels, side="left")
    return np.unique(labels, return_inverse=True)[1]


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Return the indicator matrix ``[n, C]`` of class codes ``[n]``."""
    return np.eye(int(codes.max()) + 1)[codes]


def as_responses(labels: np.ndarray, kind: str) -> np.ndarray:
    """Return one target ``[n]`` as columns to be fitted: itself, or one indicator column per class."""
    if kind == "classification":
        return one_hot(classes(labels, kind))
    return labels[:, None]
