"""How strongly learning one target should help another: from labels, from features, from gradients.

>>> from taskgroup.affinity import affinity_matrix
>>> from taskgroup.datasets import load_dataset
>>> affinity = affinity_matrix(load_dataset("crystals").targets, measure="spearman")
>>> -1 < affinity.value("bulk_modulus", "volume") < 0
True
"""

from taskgroup.affinity._categories import correlation_ratio, cramers_v
from taskgroup.affinity._correlations import kendall, pearson, spearman
from taskgroup.affinity._distance_correlation import distance_correlation
from taskgroup.affinity._mutual_information import information_correlation, mutual_information
from taskgroup.affinity._relation import UNDEFINED, Relation
from taskgroup.affinity.affinity import Affinity
from taskgroup.affinity.features import (
    METRICS,
    Metric,
    Transfer,
    cka,
    h_score,
    knn_probe,
    leep,
    linear_cka,
    logme,
    nce,
    nleep,
    ridge_probe,
    rsa,
    shrunk_h_score,
    transfer_matrix,
    transrate,
)
from taskgroup.affinity.labels import MEASURES, Measure, affinity_matrix, find_measure

__all__ = [
    "MEASURES",
    "METRICS",
    "UNDEFINED",
    "Affinity",
    "Measure",
    "Metric",
    "Relation",
    "Transfer",
    "affinity_matrix",
    "cka",
    "correlation_ratio",
    "cramers_v",
    "distance_correlation",
    "find_measure",
    "h_score",
    "information_correlation",
    "kendall",
    "knn_probe",
    "leep",
    "linear_cka",
    "logme",
    "mutual_information",
    "nce",
    "nleep",
    "pearson",
    "ridge_probe",
    "rsa",
    "shrunk_h_score",
    "spearman",
    "transfer_matrix",
    "transrate",
]
