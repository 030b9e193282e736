"""Transferability of any group's features to every target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.affinity.affinity import Affinity
from taskgroup.affinity.features._hscore import h_score, shrunk_h_score
from taskgroup.affinity.features._leep import leep, nce, nleep
from taskgroup.affinity.features._logme import logme
from taskgroup.affinity.features._probes import knn_probe, ridge_probe
from taskgroup.affinity.features._similarity import cka, rsa
from taskgroup.affinity.features._transrate import transrate
from taskgroup.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from taskgroup.datasets import TargetTable


@dataclass(frozen=True)
class Metric:
    """One transferability metric: ``function(source, labels, kind) -> float | [T]``.

    ``kinds`` are the target kinds it was defined for (both are answered: see each function for what it does with the
    other), ``takes`` is ``features``, or what `leep` and `nce` want instead: source ``probabilities``, ``classes``.
    ``bounds`` are the least and the largest possible value.
    """

    function: Callable[..., float | np.ndarray]
    kinds: tuple[str, ...]
    higher_is_better: bool = True
    takes: str = "features"
    bounds: tuple[float, float] = (-np.inf, np.inf)


_BOTH, _CLASSES = ("regression", "classification"), ("classification",)
METRICS: dict[str, Metric] = {
    "logme": Metric(logme, _BOTH),
    "h_score": Metric(h_score, _CLASSES, bounds=(0, np.inf)),
    "shrunk_h_score": Metric(shrunk_h_score, _CLASSES, bounds=(0, np.inf)),
    "leep": Metric(leep, _CLASSES, takes="probabilities", bounds=(-np.inf, 0)),
    "nce": Metric(nce, _CLASSES, takes="classes", bounds=(-np.inf, 0)),
    "nleep": Metric(nleep, _CLASSES, bounds=(-np.inf, 0)),
    "transrate": Metric(transrate, _CLASSES, bounds=(0, np.inf)),
    "cka": Metric(cka, _BOTH, bounds=(0, 1)),
    "rsa": Metric(rsa, _BOTH, bounds=(-1, 1)),
    "knn": Metric(knn_probe, _BOTH, bounds=(-np.inf, 1)),
    "ridge": Metric(ridge_probe, _BOTH, bounds=(-np.inf, 1)),
}
_PROBES = ("knn", "ridge")


@dataclass(frozen=True, eq=False)
class Transfer:
    """How well each source's features serve each target.

    ``values[s, t]`` and ``n[s, t]`` (rows used) are ``[sources, targets]``; higher is better for every built-in metric.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    values: np.ndarray
    n: np.ndarray
    measure: str

    def frame(self) -> "pd.DataFrame":
        """A table with one row a source and one column a target."""
        import pandas as pd

        return pd.DataFrame(self.values, index=list(self.sources), columns=list(self.targets))

    def affinity(self) -> Affinity:
        """As a directed affinity, helper = source: for sources that are the targets themselves, each learned alone.

        Raises InputError if there is not exactly one source a target.
        """
        if sorted(self.sources) != sorted(self.targets):
            raise InputError(
                f"an affinity needs one source a target, but got {self.sources} for {self.targets}"
            )
        rows = [self.sources.index(name) for name in self.targets]
        return Affinity(self.targets, self.values[rows], n=self.n[rows], measure=self.measure)


def transfer_matrix(
    features_by_group: Mapping[object, np.ndarray],
    table: "TargetTable",
    measure: str = "logme",
    *,
    groups: "Sequence[str] | None" = None,
) -> Transfer:
    """Score the features of every source for every target of a table.

    Labels are standardised in the space of the target's transform, features are centred and get one constant column
    (LogME has no intercept of its own), so that the numbers of one target compare between sources.

    Args:
        features_by_group: source (a Group, or its name) -> features ``[rows, d]``, in the table's row order. For
            ``leep`` source probabilities, for ``nce`` source classes.
        table: the targets; NaN = missing.
        measure: a name of `METRICS`.
        groups: keys (formula, chemical system) kept together by the folds of ``knn`` and ``ridge``.

    Raises:
        InputError: an unknown measure, no source, or features of another number of rows.
    """
    from taskgroup.datasets import TargetScaler

    if measure not in METRICS:
        raise InputError(
            f"unknown transferability metric '{measure}': {did_you_mean(measure, METRICS)}"
        )
    if not features_by_group:
        raise InputError("transfer_matrix needs the features of at least one group, but got none")
    metric = METRICS[measure]
    options = {"groups": groups} if measure in _PROBES else {}
    n = (~np.isnan(table.values)).sum(axis=0)
    columns = np.flatnonzero(n > 0)
    labelled = table.select([table.names[column] for column in columns])
    labels = TargetScaler.fit(labelled.specs, labelled.values).encode(labelled.values)
    kinds = np.array([spec.kind for spec in labelled.specs])
    values = np.full((len(features_by_group), len(table.names)), np.nan)
    for row, features in enumerate(features_by_group.values()):
        source = _with_constant(features) if metric.takes == "features" else features
        for kind in np.unique(kinds):
            of_kind = kinds == kind
            scores = metric.function(source, labels[:, of_kind], str(kind), **options)
            values[row, columns[of_kind]] = scores
    return Transfer(
        tuple(map(str, features_by_group)),
        table.names,
        values,
        np.tile(n, (len(values), 1)),
        measure,
    )


def _with_constant(features: np.ndarray) -> np.ndarray:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise InputError(f"features of a group must be [rows, d], but got shape {x.shape}")
    centred = x - x.mean(axis=0)
    return np.column_stack([centred, np.full(len(x), centred.std() or 1.0)])
