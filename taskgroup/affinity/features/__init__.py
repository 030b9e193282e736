"""Transferability: how much do features learned for some targets know about another, without training anything?

Every metric is ``metric(features [n, d], labels [n] or [n, T], kind) -> float or [T]``; higher is better; rows without
a label are left out; duplicated, constant or too many columns are fine.

    >>> import numpy as np
    >>> x = np.random.RandomState(0).randn(50, 5)
    >>> y = x @ [1, -2, 0.5, 0, 0]
    >>> round(ridge_probe(x, y), 3)
    1.0
    >>> logme(x, y) > logme(x, np.roll(y, 7))
    True
"""

from taskgroup.affinity.features._hscore import h_score, shrunk_h_score
from taskgroup.affinity.features._leep import leep, nce, nleep
from taskgroup.affinity.features._logme import logme
from taskgroup.affinity.features._matrix import METRICS, Metric, Transfer, transfer_matrix
from taskgroup.affinity.features._probes import knn_probe, ridge_probe
from taskgroup.affinity.features._similarity import cka, linear_cka, rsa
from taskgroup.affinity.features._transrate import transrate

__all__ = [
    "METRICS",
    "Metric",
    "Transfer",
    "cka",
    "h_score",
    "knn_probe",
    "leep",
    "linear_cka",
    "logme",
    "nce",
    "nleep",
    "ridge_probe",
    "rsa",
    "shrunk_h_score",
    "transfer_matrix",
    "transrate",
]
