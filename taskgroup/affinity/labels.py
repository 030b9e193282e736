"""Affinities read off the labels themselves: nothing is trained, so they cost seconds and start every search.

- Two regression targets are compared by the measure asked for, in the space the network learns (transform applied).
- A class and a number are compared by the correlation ratio (of ranks, where the measure is one of ranks), two classes
  by the bias-corrected Cramér's V, whatever the measure; beside a signed measure they carry the sign of the relation.
- Every pair uses the materials that have both labels, and says how many these were.
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

_OF_RANKS = frozenset({"spearman", "kendall"})
_SIGNED = frozenset({"pearson", "spearman", "kendall"})


def find_measure(name: str) -> Measure:
    """Return the measure of that name; GroupingError names the nearest known one."""
    return MEASURES.find(name)


def affinity_matrix(table: "TargetTable", measure: str = "spearman") -> Affinity:
    """The affinity of every two targets of a table.

    The numbers do not depend on the order of the columns. A pair with a constant column or fewer than three complete
    rows is NaN with p = 1; on the diagonal stands 1, or NaN for a constant target. Raises GroupingError for an unknown
    measure.

    >>> from taskgroup.datasets import load_dataset
    >>> affinity = affinity_matrix(load_dataset("crystals").targets, measure="spearman")
    >>> affinity.value("bulk_modulus", "volume") < 0
    True
    """
    between = find_measure(measure)
    names = [spec.name for spec in table.specs]
    columns = [
        spec.forward(column) for spec, column in zip(table.specs, table.values.T, strict=True)
    ]
    known = [~np.isnan(column) for column in columns]
    values, p = np.full((2, len(names), len(names)), np.nan)
    n = np.zeros((len(names), len(names)), dtype=int)
    by_name = sorted(range(len(names)), key=lambda i: names[i])
    for place, i in enumerate(by_name):
        for j in by_name[place:]:
            both = known[i] & known[j]
            kinds = (table.specs[i].kind, table.specs[j].kind)
            relation = (
                _relation(columns[i][both], columns[j][both], kinds, measure, between)
                if i != j
                else None
            )
            relation = relation or _itself(columns[i][both])
            values[i, j] = values[j, i] = relation.value
            p[i, j] = p[j, i] = relation.p
            n[i, j] = n[j, i] = both.sum()
    return Affinity(tuple(names), values, p, n, measure)


def _relation(
    x: np.ndarray, y: np.ndarray, kinds: tuple[str, str], measure: str, between: Measure
) -> Relation:
    if len(x) < LEAST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return UNDEFINED
    if kinds == ("regression", "regression"):
        return between(x, y)
    if kinds == ("classification", "classification"):
        strength, p = cramers_v(x, y)
    else:
        classes, numbers = (x, y) if kinds[0] == "classification" else (y, x)
        strength, p = correlation_ratio(
            classes, rankdata(numbers) if measure in _OF_RANKS else numbers
        )
    falling = measure in _SIGNED and pearson(x, y).value < 0.0
    return Relation(-strength if falling else strength, p)


def _itself(x: np.ndarray) -> Relation:
    return Relation(1.0, 0.0) if len(x) >= LEAST_PAIRS and np.ptp(x) > 0.0 else UNDEFINED
