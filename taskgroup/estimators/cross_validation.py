"""Cross-validated R2 of sets of targets, and what each target gains in its group."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import TargetTable
from taskgroup.grouping import Grouping
from taskgroup.intervals import bootstrap_counts, percentile_bounds

if TYPE_CHECKING:
    import pandas as pd

FitAndPredict = Callable[[Any, NDArray, NDArray], NDArray[np.float64]]
"""Trains on some rows and predicts others: (X, training rows, test rows) -> predictions [test rows, targets]."""

# Enough for the 2.5 % tails.
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class SetScores:
    """Out-of-fold predictions of one set of targets, and their R2.

    ``truth`` and ``predicted`` are [rows, targets], NaN where there is no label; ``r2`` is None where it is undefined.
    """

    targets: tuple[str, ...]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    r2: Mapping[str, float | None]

    def clipped(self) -> dict[str, float]:
        """Return the R2 of each target, clipped below at -1 as in a study; an undefined one is worth nothing: 0."""
        return {name: 0.0 if r2 is None else max(-1.0, r2) for name, r2 in self.r2.items()}

    @staticmethod
    def frame(scores: "Iterable[SetScores]") -> "pd.DataFrame":
        """Return ``targets, rows`` (with all labels) and one column of R2 per target."""
        import pandas as pd

        lines = []
        for of_set in scores:
            rows = int(np.isfinite(of_set.truth).all(axis=1).sum())
            lines.append({"targets": " + ".join(of_set.targets), "rows": rows, **of_set.r2})
        return pd.DataFrame(lines)


def set_scores(
    X: Any,
    table: TargetTable,
    targets: tuple[str, ...],
    folds: Sequence[tuple[NDArray, NDArray]],
    fit_and_predict: FitAndPredict,
) -> SetScores:
    """Return the cross-validated scores of one set: every label is predicted by a model that has not seen its row."""
    truth = table.select(targets).values
    predicted = np.full(truth.shape, np.nan)
    for train, test in folds:
        predicted[test] = fit_and_predict(X, train, test)
    r2 = {}
    for column, name in enumerate(targets):
        value = float(_r2(truth[:, column], predicted[:, column], np.ones((1, len(truth))))[0])
        r2[name] = value if np.isfinite(value) else None
    return SetScores(targets, truth, predicted, r2)


def gains_frame(
    grouping: Grouping, scores: Mapping[tuple[str, ...], SetScores], seed: int
) -> "pd.DataFrame":
    """Return ``target, group, r2, r2_alone, gain, low, high``; intervals are 95 %, bootstrapped over rows, paired."""
    import pandas as pd

    lines = []
    for name in grouping.targets:
        targets = grouping.serving(name).targets
        line = {"target": name, "group": " + ".join(targets), "r2": scores[targets].r2[name]}
        line |= {"r2_alone": scores[name,].r2[name], "gain": None, "low": None, "high": None}
        if len(targets) > 1:
            draws = _gain_draws(name, scores[targets], scores[name,], seed)
            low, high = percentile_bounds(draws[1:])
            line |= {"gain": float(draws[0]), "low": low, "high": high}
        lines.append(line)
    return pd.DataFrame(lines).astype({"gain": float, "low": float, "high": float})


def _gain_draws(name: str, joint: SetScores, alone: SetScores, seed: int) -> NDArray[np.float64]:
    """Return R2 in the group minus R2 alone, on the rows, then on bootstrap draws of them."""
    column = joint.targets.index(name)
    truth = alone.truth[:, 0]
    counts = bootstrap_counts(len(truth), _DRAWS, np.random.default_rng(seed))
    weights = np.concatenate([np.ones((1, len(truth))), counts])
    in_group = _r2(truth, joint.predicted[:, column], weights)
    return in_group - _r2(truth, alone.predicted[:, 0], weights)


def _r2(truth: NDArray, predicted: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Return R2 over the labelled rows for each row of weights; NaN where the truth is constant."""
    # Imported here, since it loads torch.
    from taskgroup.training.metrics import r2_score

    labelled = np.isfinite(truth) & np.isfinite(predicted)
    if not labelled.any():
        return np.full(len(weights), np.nan)
    return r2_score(truth[labelled], predicted[labelled], weights[:, labelled])
