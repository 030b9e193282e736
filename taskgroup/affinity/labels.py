"""Affinities read off the labels themselves: nothing is trained, so they cost seconds and start every search.

- Two regression targets are compared by the measure asked for, in the space the network learns (transform applied).
- A class and a number are compared by the correlation ratio (of ranks, where the measure is one of ranks), two classes
  by the bias-corrected Cramér's V, whatever the measure; beside a signed measure they carry the sign of the relation.
- Every pair uses the materials that have both labels, and counts them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from taskgroup.affinity._categories import correlation_ratio, cramers_v
from taskgroup.affinity._correlations import kendall, pearson, spearman
from taskgroup.affinity._distance_correlation import distance_correlation
from taskgroup.affinity._mutual_information import information_correlation
from taskgroup.affinity._relation import LEAST_PAIRS, UNDEFINED, Relation
from taskgroup.affinity.affinity import Affinity
from taskgroup.errors import GroupingError
from taskgroup.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.datasets import TargetTable

Measure = Callable[[np.ndarray, np.ndarray], Relation]
"""Two columns float [n] without NaN -> strength and p-value; `taskgroup.affinity.testing` says what is expected."""

MEASURES: Registry[Measure] = Registry(
    kind="measure",
    group="taskgroup.measures",
    builtin={
        "pearson": pearson,
        "spearman": spearman,
        "kendall": kendall,
        "distance_correlation": distance_correlation,
        "mutual_information": information_correlation,
    },
    error=GroupingError,
)
"""Measures by name: those of taskgroup, then installed entry points of ``taskgroup.measures``."""

# Measures that compare ranks, and those with a sign.
_OF_RANKS = frozenset({"spearman", "kendall"})
_SIGNED = frozenset({"pearson", "spearman", "kendall"})


def find_measure(name: str) -> Measure:
    """Return the measure of that name; GroupingError names the nearest known one."""
    return MEASURES.find(name)


def affinity_matrix(labels: "TargetTable | pd.DataFrame", measure: str = "spearman") -> Affinity:
    """Return the affinity of every two targets of a table, or of a DataFrame with one column per target.

    The numbers do not depend on the order of the columns. A pair with a constant column or fewer than three complete
    rows is NaN with p = 1; on the diagonal stands 1, or NaN for a constant target. Raises GroupingError for an unknown
    measure.

    >>> from taskgroup.datasets import load_dataset
    >>> affinity = affinity_matrix(load_dataset("crystals").targets, measure="spearman")
    >>> affinity.value("bulk_modulus", "volume") < 0
    True
    """
    # Imported here: the verbs that show affinities need no datasets.
    from taskgroup.datasets import as_target_table

    between = find_measure(measure)
    table = as_target_table(labels)
    names = [spec.name for spec in table.specs]
    n_targets = len(names)
    columns = []
    for spec, values_of_target in zip(table.specs, table.values.T, strict=True):
        columns.append(spec.forward(values_of_target))
    known = [~np.isnan(column) for column in columns]
    values = np.full((n_targets, n_targets), np.nan)
    p = np.full((n_targets, n_targets), np.nan)
    n = np.zeros((n_targets, n_targets), dtype=int)
    # In the order of names each pair is compared in one direction, so the order of columns cannot change a number.
    by_name = sorted(range(n_targets), key=lambda i: names[i])
    for place, i in enumerate(by_name):
        for j in by_name[place:]:
            both = known[i] & known[j]
            x, y = columns[i][both], columns[j][both]
            if i == j:
                relation = _with_itself(x)
            else:
                kinds = (table.specs[i].kind, table.specs[j].kind)
                relation = _relation(x, y, kinds, measure, between)
            values[i, j] = values[j, i] = relation.value
            p[i, j] = p[j, i] = relation.p
            n[i, j] = n[j, i] = both.sum()
    return Affinity(tuple(names), values, p, n, measure)


def _relation(
    x: np.ndarray, y: np.ndarray, kinds: tuple[str, str], measure: str, between: Measure
) -> Relation:
    if not _varies(x) or not _varies(y):
        return UNDEFINED
    if kinds == ("regression", "regression"):
        return between(x, y)
    if kinds == ("classification", "classification"):
        strength, p = cramers_v(x, y)
    else:
        classes, numbers = (x, y) if kinds[0] == "classification" else (y, x)
        if measure in _OF_RANKS:
            numbers = rankdata(numbers)
        strength, p = correlation_ratio(classes, numbers)
    # Measures of classes have no sign; beside a signed measure they take that of the correlation.
    is_falling = measure in _SIGNED and pearson(x, y).value < 0.0
    return Relation(-strength if is_falling else strength, p)


def _with_itself(x: np.ndarray) -> Relation:
    return Relation(1.0, 0.0) if _varies(x) else UNDEFINED


def _varies(x: np.ndarray) -> bool:
    return len(x) >= LEAST_PAIRS and np.ptp(x) > 0.0
