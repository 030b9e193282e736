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
from taskgroup.affinity._relation import Relation
from taskgroup.affinity.affinity import Affinity
from taskgroup.affinity.labels import MEASURES, Measure, affinity_matrix, find_measure

__all__ = [
    "MEASURES",
    "Affinity",
    "Measure",
    "Relation",
    "affinity_matrix",
    "correlation_ratio",
    "cramers_v",
    "distance_correlation",
    "find_measure",
    "information_correlation",
    "kendall",
    "mutual_information",
    "pearson",
    "spearman",
]
