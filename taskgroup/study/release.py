"""The end of a study: the one look at the test rows, and the bundle of the chosen plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.export import Bundle, choose_inputs, evaluate, predict, save_bundle
from taskgroup.intervals import (
    Interval,
    bootstrap_counts,
    bootstrap_interval,
    percentile_bounds,
)
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.study.refit import Members, refit_bundle
from taskgroup.tracking.predictions import write_predictions
from taskgroup.tracking.verdict import grouping_verdict
from taskgroup.training.metrics import weighted_metric

if TYPE_CHECKING:
    import pandas as pd

# 1,000 draws give 95 % bounds to about a twentieth of the interval's width.
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Scores of a bundle on the test rows.

    ``metrics`` are per target those of ``evaluate``, with ``skill_alone``, ``gain``, ``gain_low`` and ``gain_high``
    against a bundle that learnt every target alone; ``mean`` is the mean skill over targets, ``mean_gain`` the
    difference of these means; ``predictions`` is the table that ``predict`` gives.
    """

    metrics: dict[str, dict[str, Any]]
    mean: Interval
    mean_gain: Interval | None
    predictions: "pd.DataFrame"


def release(
    folder: Path,
    data: StudyData,
    plan: Plan,
    members: Members,
    plan_alone: Plan,
    alone: Members,
    name: str,
    probabilities: Mapping[str, float] | None = None,
) -> HeldOutScores:
    """Test the refitted plan, and write its bundle to ``folder/export`` and its predictions beside it.

    The gains are measured against ``alone``, the members of ``plan_alone``: one network for each target that could be
    trained alone. ``probabilities`` that the plan is better than other groupings go into the verdict.
    """
    bundle = refit_bundle(folder, data, plan, members, name)
    bundle_alone = refit_bundle(folder, data, plan_alone, alone, name)
    scores = score_test_rows(bundle, bundle_alone, data)
    truth = {name: data.dataset.targets.column(name)[data.test_rows] for name in bundle.targets}
    write_predictions(folder, truth, scores.predictions)
    verdict = grouping_verdict(plan.grouping, scores.mean_gain, probabilities)
    provenance = {**bundle.spec.provenance, "verdict": verdict}
    spec = replace(bundle.spec, metrics={"test": scores.metrics}, provenance=provenance)
    reference = choose_inputs(data.dataset, spec.density.n_channels)
    save_bundle(folder / "export", spec, bundle.members, reference)
    return scores


def score_test_rows(bundle: Bundle, alone: Bundle, data: StudyData) -> HeldOutScores:
    """Return the scores of a bundle on the test rows, with its gains over a bundle of single-target networks.

    Intervals are 95 % bootstrap intervals over the rows; those of the gains are paired: both bundles are scored on the
    same draws. A target that the other bundle lacks has no gain; then there is no mean gain either.
    """
    rows = data.test_rows
    predictions = predict(bundle, data.dataset, rows=rows)
    draws = skill_draws(predictions, data, rows)
    draws_alone = skill_draws(predict(alone, data.dataset, rows=rows), data, rows)
    metrics = evaluate(bundle, data.dataset, rows)["targets"]
    for target, of_target in metrics.items():
        if target not in draws_alone:
            continue
        gains = draws[target] - draws_alone[target]
        low, high = percentile_bounds(gains[1:])
        of_target["skill_alone"] = float(draws_alone[target][0])
        of_target["gain"] = float(gains[0])
        of_target["gain_low"] = low
        of_target["gain_high"] = high
    mean = mean_draws(draws)
    mean_gain = None
    if draws_alone.keys() == draws.keys():
        mean_gain = interval_of_draws(mean - mean_draws(draws_alone))
    return HeldOutScores(metrics, interval_of_draws(mean), mean_gain, predictions)


def skill_draws(
    predictions: "pd.DataFrame", data: StudyData, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the skill of each target on the rows, then on bootstrap draws of them: [1 + draws].

    The draws are the same for every table of predictions, so that differences are paired.
    """
    counts = bootstrap_counts(len(rows), _DRAWS, np.random.default_rng(0))
    all_rows_once = np.ones((1, len(rows)))
    weights = np.concatenate([all_rows_once, counts])
    draws = {}
    for target in predictions.attrs["units"]:
        # Predictions of a bundle are in the units of the dataset.
        truth = data.dataset.targets.column(target)[rows]
        predicted = predictions[target].to_numpy(dtype=float)
        labelled = np.isfinite(truth)
        draws[target] = weighted_metric(
            data.targets.spec(target),
            "skill",
            truth[labelled],
            predicted[labelled],
            weights[:, labelled],
        )
    return draws


def mean_draws(draws: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean skill over targets, each clipped below at -1, for the rows and every draw."""
    return np.nanmean([np.clip(of_target, -1, None) for of_target in draws.values()], axis=0)


def interval_of_draws(draws: NDArray[np.float64]) -> Interval:
    """Return the value on the rows (first) with the bootstrap interval of the draws (all others)."""
    return bootstrap_interval(draws[0], draws[1:])
