"""Metrics of predictions, per target, over the rows that have a label.

The skill of a target is 0 for a constant predictor and 1 for a perfect one: R2 in the space of the target's transform
for regression, 2*AUC-1 for classification. A metric that does not exist (no labels, a constant column, one class) is
None.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets import Target
from taskgroup.intervals import LEVEL, Interval, bootstrap_counts, bootstrap_interval

Array = NDArray[np.float64]

REGRESSION_METRICS = ("skill", "r2", "r2_natural", "mae", "rmse")
CLASSIFICATION_METRICS = ("skill", "auc", "accuracy", "log_loss")

# A constant column keeps a spread of about 1e-16 of its squares, by rounding: far below this share it has no R2.
_LEAST_RELATIVE_SPREAD = 1e-12
# A single confident mistake must not make the log loss of a whole target infinite.
_LEAST_PROBABILITY = 1e-7
# A target counts at most this much against the others in a mean skill: below -1 all predictors are equally useless.
LEAST_SKILL = -1.0


def r2_score(truth: Array, predicted: Array, weights: Array | None = None) -> Array:
    """Return the coefficient of determination along the last axis, NaN where the truth is constant.

    ``weights`` [..., rows] counts each row (bootstrap draws); leading axes broadcast, which gives one R2 per draw.
    """
    if weights is None:
        weights = np.ones_like(truth)
    squared_errors = (truth - predicted) ** 2
    residual = (weights * squared_errors).sum(-1)
    total_weight = weights.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weights * truth).sum(-1) / total_weight
        squared_deviations = (truth - mean[..., None]) ** 2
        spread = (weights * squared_deviations).sum(-1)
        sum_of_squares = (weights * truth**2).sum(-1)
        least_spread = _LEAST_RELATIVE_SPREAD * sum_of_squares
        r2 = 1 - residual / spread
        return np.where(spread > least_spread, r2, np.nan)


def auc_score(truth: Array, score: Array, weights: Array | None = None) -> Array:
    """Return the area under the ROC curve along the last axis, ties counted half; NaN for one class only.

    ``truth`` and ``score`` are [rows]; ``weights`` [..., rows] counts each row, which gives one area per draw.
    """
    if weights is None:
        weights = np.ones_like(truth)
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    is_new_score = np.r_[True, ordered[1:] != ordered[:-1]]
    first_of_ties = np.flatnonzero(is_new_score)
    positive_weights = (weights * truth)[..., order]
    negative_weights = (weights * (1 - truth))[..., order]
    positives = np.add.reduceat(positive_weights, first_of_ties, axis=-1)
    negatives = np.add.reduceat(negative_weights, first_of_ties, axis=-1)
    # Negatives with a lower score count in full, those of an equal score half.
    negatives_below = np.cumsum(negatives, axis=-1) - 0.5 * negatives
    ordered_pairs = (positives * negatives_below).sum(-1)
    all_pairs = positives.sum(-1) * negatives.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ordered_pairs / all_pairs


def target_metrics(spec: Target, truth: ArrayLike, predicted: ArrayLike) -> dict[str, float | None]:
    """Return the metrics of one target; truth and predictions [rows] are in its unit (0/1 and probability for classes).

    Regression: n, skill, r2 (in the space of the transform), r2_natural, mae, rmse (in the unit). Classification:
    n, skill, auc, accuracy (at probability 1/2), log_loss. Rows without a label are left out.

    >>> target_metrics(Target("gap", unit="eV"), [1.0, 2.0, 3.0], [1.0, 2.0, 3.5])["r2"]
    0.875
    """
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    labelled = np.isfinite(truth)
    truth = truth[labelled]
    predicted = predicted[labelled]
    is_class = spec.kind == "classification"
    if len(truth) == 0:
        names = CLASSIFICATION_METRICS if is_class else REGRESSION_METRICS
        return {"n": 0} | dict.fromkeys(names)
    compute = _classification_metrics if is_class else _regression_metrics
    metrics = compute(spec, truth, predicted)
    finite = {name: _finite_or_none(value) for name, value in metrics.items()}
    return {"n": len(truth)} | finite


def group_metrics(
    specs: Sequence[Target], truth: NDArray, predicted: NDArray
) -> dict[str, dict[str, float | None]]:
    """Return ``target_metrics`` of each target; truth and predictions are [rows, T] in units."""
    return {
        spec.name: target_metrics(spec, truth[:, i], predicted[:, i])
        for i, spec in enumerate(specs)
    }


def output_skills(
    specs: Sequence[Target], labels: NDArray, outputs: NDArray, weights: NDArray
) -> Array:
    """Return skills [draws, T] from standardised labels and network outputs [rows, T]; NaN where undefined.

    Labels are NaN where missing; ``weights`` [draws, rows] counts each row. With weights of one the skills are those
    of ``group_metrics``: R2 does not change under standardisation, nor AUC from logit to probability.
    """
    skills = np.full((len(weights), len(specs)), np.nan)
    for i, spec in enumerate(specs):
        labelled = np.isfinite(labels[:, i])
        if labelled.any():
            truth = labels[labelled, i].astype(np.float64)
            output = outputs[labelled, i].astype(np.float64)
            skills[:, i] = _skill(spec, truth, output, weights[:, labelled])
    return skills


def mean_skill(skills: Mapping[str, float | None]) -> float:
    """Return the value of a set of targets: the mean skill, each clipped below at -1.

    Undefined skills are left out; NaN where all are.

    >>> mean_skill({"a": -50.0, "b": 0.5, "c": None})
    -0.25
    """
    clipped = []
    for skill in skills.values():
        if skill is not None and math.isfinite(skill):
            clipped.append(max(skill, LEAST_SKILL))
    if not clipped:
        return math.nan
    return sum(clipped) / len(clipped)


def interval(
    spec: Target,
    truth: ArrayLike,
    predicted: ArrayLike,
    metric: str = "skill",
    *,
    level: float = LEVEL,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a metric with its percentile bootstrap interval over materials and, where there are several, over seeds.

    Parameters
    ----------
    spec: the target.
    truth: [rows] in its unit; rows without a label are left out.
    predicted: [rows], or [seeds, rows] for several networks; the value is then the mean over seeds, and each draw takes
        seeds with replacement first, then the same materials for all of them.
    metric: skill, r2, r2_natural, mae, rmse, auc or accuracy.
    level: of confidence.
    draws: number of bootstrap draws.
    seed: of the draws.
    """
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.atleast_2d(np.asarray(predicted, dtype=np.float64))
    labelled = np.isfinite(truth)
    truth = truth[labelled]
    predicted = predicted[:, labelled]
    if not len(truth):
        return Interval(None, None, None)
    random = np.random.default_rng(seed)
    counts = bootstrap_counts(len(truth), draws, random)
    every_row_once = np.ones((1, len(truth)))

    def metric_of_seeds(weights: Array) -> Array:
        return np.stack([weighted_metric(spec, metric, truth, row, weights) for row in predicted])

    value = np.mean(metric_of_seeds(every_row_once))
    by_seed = metric_of_seeds(counts)  # [seeds, draws]
    drawn_seeds = random.integers(len(predicted), size=by_seed.shape)
    drawn_values = np.take_along_axis(by_seed, drawn_seeds, axis=0).mean(0)
    return bootstrap_interval(value, drawn_values, level)


def weighted_metric(
    spec: Target, metric: str, truth: Array, predicted: Array, weights: Array
) -> Array:
    """Return a metric [draws] of truth and predictions [rows], in units, for each row of weights [draws, rows].

    ``metric`` is skill, r2, r2_natural, mae, rmse, auc or accuracy.
    """
    predicted = np.asarray(predicted, dtype=np.float64)
    if metric == "skill":
        return _skill(spec, spec.forward(truth), spec.forward_predictions(predicted), weights)
    if metric == "auc":
        return auc_score(truth, predicted, weights)
    if metric == "r2":
        return r2_score(spec.forward(truth), spec.forward_predictions(predicted), weights)
    if metric == "r2_natural":
        return r2_score(truth, predicted, weights)
    row_scores = _ROW_SCORES[metric](truth, predicted)
    mean = weights @ row_scores / weights.sum(-1)
    return np.sqrt(mean) if metric == "rmse" else mean


def _is_right_class(truth: Array, probability: Array) -> Array:
    return ((probability >= 0.5) == (truth >= 0.5)).astype(np.float64)


_ROW_SCORES = {
    "mae": lambda truth, predicted: np.abs(truth - predicted),
    "rmse": lambda truth, predicted: (truth - predicted) ** 2,
    "accuracy": _is_right_class,
}


def _skill(spec: Target, truth: Array, predicted: Array, weights: Array) -> Array:
    """Return skills [draws] of truth and predictions [rows] in the space that is learnt."""
    if spec.kind == "classification":
        return 2 * auc_score(truth, predicted, weights) - 1
    return r2_score(truth, predicted, weights)


def _regression_metrics(spec: Target, truth: Array, predicted: Array) -> dict[str, float]:
    error = predicted - truth
    r2 = float(r2_score(spec.forward(truth), spec.forward_predictions(predicted)))
    return {
        "skill": r2,
        "r2": r2,
        "r2_natural": float(r2_score(truth, predicted)),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


def _classification_metrics(spec: Target, truth: Array, probability: Array) -> dict[str, float]:
    auc = float(auc_score(truth, probability))
    clipped = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    log_likelihood = truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)
    return {
        "skill": 2 * auc - 1,
        "auc": auc,
        "accuracy": float(_is_right_class(truth, probability).mean()),
        "log_loss": float(-log_likelihood.mean()),
    }


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
