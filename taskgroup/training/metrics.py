"""How good predictions are, per target, over the labels that are there.

The skill of a target is 0 for a constant predictor and 1 for a perfect one: R2 in the space of the target's transform
for regression, 2*AUC-1 for classification. What does not exist (no labels, a constant column, one class) is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets import Target

Array = NDArray[np.float64]
_TINY = 1e-300
_CLIP = 1e-7  # probabilities are kept this far from 0 and 1 in the log loss


def r2_score(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Coefficient of determination along the last axis, NaN where the truth is constant.

    ``weights`` [..., rows] counts each row (bootstrap draws); leading axes broadcast, which gives one R2 a draw.
    """
    weights = np.ones_like(truth) if weights is None else weights
    residual = (weights * (truth - predicted) ** 2).sum(-1)
    total_weight = weights.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weights * truth).sum(-1) / total_weight
        spread = (weights * (truth - mean[..., None]) ** 2).sum(-1)
        scale = 1e-12 * (weights * truth**2).sum(-1)
        return np.where(spread > scale, 1 - residual / spread, np.nan)


def auc_score(truth: Array, score: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve along the last axis, ties counted half; NaN where only one class is there.

    ``truth`` and ``score`` are [rows]; ``weights`` [..., rows] counts each row, which gives one area a draw.
    """
    weights = np.ones_like(truth) if weights is None else weights
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    positive = np.add.reduceat((weights * truth)[..., order], starts, axis=-1)
    negative = np.add.reduceat((weights * (1 - truth))[..., order], starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - 0.5 * negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return (positive * below).sum(-1) / (positive.sum(-1) * negative.sum(-1))


def target_metrics(spec: Target, truth: ArrayLike, predicted: ArrayLike) -> dict[str, float | None]:
    """Metrics of one target, truth and predictions [rows] in its unit (0/1 and probability for classification).

    Regression: skill, n, r2 (in the space of the transform), r2_natural, mae, rmse (in the unit). Classification:
    skill, n, auc, accuracy (at probability 1/2), log_loss. Rows without a label are left out.
    """
    truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    there = np.isfinite(truth)
    truth, predicted = truth[there], predicted[there]
    n = len(truth)
    if spec.kind == "classification":
        names = ("skill", "auc", "accuracy", "log_loss")
        values = _classification(truth, predicted) if n else {}
    else:
        names = ("skill", "r2", "r2_natural", "mae", "rmse")
        values = _regression(spec, truth, predicted) if n else {}
    return {"n": n} | {name: _number(values.get(name, math.nan)) for name in names}


def group_metrics(
    specs: Sequence[Target], truth: NDArray, predicted: NDArray
) -> dict[str, dict[str, float | None]]:
    """``target_metrics`` of each target; truth and predictions are [rows, T] in units."""
    return {
        spec.name: target_metrics(spec, truth[:, i], predicted[:, i])
        for i, spec in enumerate(specs)
    }


def output_skills(
    specs: Sequence[Target], labels: NDArray, outputs: NDArray, weights: NDArray
) -> Array:
    """Skills [draws, T] from standardised labels (NaN = missing) and network outputs [rows, T]; NaN: undefined.

    ``weights`` [draws, rows] counts each row. With all ones the same numbers as ``group_metrics``: R2 does not change
    under standardisation, nor AUC from logit to probability.
    """
    skills = np.full((len(weights), len(specs)), np.nan)
    for i, spec in enumerate(specs):
        there = np.isfinite(labels[:, i])
        if there.any():
            truth, output = (
                labels[there, i].astype(np.float64),
                outputs[there, i].astype(np.float64),
            )
            skills[:, i] = _skill(spec, truth, output, weights[:, there])
    return skills


def mean_skill(skills: Mapping[str, float | None]) -> float:
    """The value of a set of targets: mean skill, each clipped below at -1; undefined ones left out, NaN if all are."""
    known = [
        max(value, -1.0) for value in skills.values() if value is not None and math.isfinite(value)
    ]
    return sum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval; bounds are None where no draw gave a number."""

    value: float | None
    low: float | None
    high: float | None


def interval(
    spec: Target,
    truth: ArrayLike,
    predicted: ArrayLike,
    metric: str = "skill",
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a metric over materials and, where there are several, over seeds.

    Parameters
    ----------
    spec: the target.
    truth: [rows] in its unit; rows without a label are left out.
    predicted: [rows], or [seeds, rows] for several networks; the value is then the mean over seeds, and each draw takes
        seeds with replacement first, then the same materials for all of them.
    metric: skill, r2, r2_natural, mae, rmse, auc or accuracy.
    level: of confidence.  draws: bootstrap draws.  seed: of the draws.
    """
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.atleast_2d(np.asarray(predicted, dtype=np.float64))
    there = np.isfinite(truth)
    truth, predicted = truth[there], predicted[:, there]
    if not len(truth):
        return Interval(None, None, None)
    random = np.random.default_rng(seed)
    counts = random.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=draws).astype(
        np.float64
    )
    value = np.mean(
        [
            weighted_metric(spec, metric, truth, one, np.ones((1, len(truth))))[0]
            for one in predicted
        ]
    )
    by_seed = np.stack(
        [weighted_metric(spec, metric, truth, one, counts) for one in predicted]
    )  # [seeds, draws]
    chosen = random.integers(len(predicted), size=by_seed.shape)
    sample = np.take_along_axis(by_seed, chosen, axis=0).mean(0)
    sample = sample[np.isfinite(sample)]
    tail = (1 - level) / 2
    low, high = np.quantile(sample, [tail, 1 - tail]) if len(sample) else (math.nan, math.nan)
    return Interval(_number(value), _number(low), _number(high))


def weighted_metric(
    spec: Target, metric: str, truth: Array, predicted: Array, weights: Array
) -> Array:
    """A metric [draws] of truth and predictions [rows], in units, for each row of weights [draws, rows]."""
    if metric == "skill":
        metric = "auc" if spec.kind == "classification" else "r2"
        score = weighted_metric(spec, metric, truth, predicted, weights)
        return 2 * score - 1 if metric == "auc" else score
    if metric == "auc":
        return auc_score(truth, predicted, weights)
    if metric == "r2":
        return r2_score(*_transformed(spec, truth, predicted), weights)
    if metric == "r2_natural":
        return r2_score(truth, predicted, weights)
    each = {
        "mae": lambda: np.abs(truth - predicted),
        "rmse": lambda: (truth - predicted) ** 2,
        "accuracy": lambda: ((predicted >= 0.5) == (truth >= 0.5)).astype(np.float64),
    }[metric]()
    mean = weights @ each / weights.sum(-1)
    return np.sqrt(mean) if metric == "rmse" else mean


def _transformed(spec: Target, truth: Array, predicted: Array) -> tuple[Array, Array]:
    if spec.transform == "log10":  # float32 predictions may have run out of range at either end
        predicted = np.clip(predicted, _TINY, 1 / _TINY)
    return spec.forward(truth), spec.forward(predicted)


def _regression(spec: Target, truth: Array, predicted: Array) -> dict[str, float]:
    error = predicted - truth
    r2 = float(r2_score(*_transformed(spec, truth, predicted)))
    natural = float(r2_score(truth, predicted))
    mae, rmse = float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))
    return {"skill": r2, "r2": r2, "r2_natural": natural, "mae": mae, "rmse": rmse}


def _classification(truth: Array, probability: Array) -> dict[str, float]:
    auc = float(auc_score(truth, probability))
    accuracy = float(((probability >= 0.5) == (truth >= 0.5)).mean())
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    log_loss = float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())
    return {"skill": 2 * auc - 1, "auc": auc, "accuracy": accuracy, "log_loss": log_loss}


def _skill(spec: Target, truth: Array, output: Array, weights: Array) -> Array:
    if spec.kind == "classification":
        return 2 * auc_score(truth, output, weights) - 1
    return r2_score(truth, output, weights)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
