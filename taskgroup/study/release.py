"""The end of a study: the bundle of the chosen plan, and the one look at the test rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup import __version__
from taskgroup.execution.evaluator import Evaluation
from taskgroup.execution.results import network_path, prediction_path
from taskgroup.export import (
    Bundle,
    BundleSpec,
    DensityFormat,
    choose_inputs,
    conformal_widths,
    evaluate,
    predict,
    residual_scale,
    save_bundle,
)
from taskgroup.export.network_file import read_network
from taskgroup.grouping import Group
from taskgroup.models import MultiTaskNetwork
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.tracking import Interval
from taskgroup.tracking.parity import write_predictions
from taskgroup.training.metrics import weighted_metric

if TYPE_CHECKING:
    import pandas as pd

_DRAWS = 1000


def release(
    folder: Path,
    data: StudyData,
    plan: Plan,
    members: Sequence[Evaluation],
    alone: Sequence[Evaluation],
    name: str,
) -> tuple[dict[str, dict[str, Any]], Interval]:
    """Test the refitted plan and write its bundle to ``folder/export``.

    ``alone`` are refits of every target alone by the same recipes: what the test gain is measured against. Returns per
    target the metrics of ``evaluate`` with ``skill_alone``, ``gain``, ``gain_low``, ``gain_high`` (paired bootstrap
    over the rows), and the mean skill over targets with its bootstrap interval.
    """
    bundle = refit_bundle(folder, data, plan.grouping, members, name)
    alone_grouping = type(plan.grouping).singles(plan.grouping.targets)
    bundle_alone = refit_bundle(folder, data, alone_grouping, alone, name)
    rows = data.splits.split(data.split.test_fold, data.split.validation_folds[0]).test
    test = evaluate(bundle, data.dataset, rows)["targets"]
    predicted = predict(bundle, data.dataset, rows=rows)
    write_predictions(
        folder, {name: data.targets.column(name)[rows] for name in bundle.targets}, predicted
    )
    ours, theirs = (
        skill_draws(found, data, rows)
        for found in (predicted, predict(bundle_alone, data.dataset, rows=rows))
    )
    for target, metrics in test.items():
        difference = ours[target] - theirs[target]
        metrics["skill_alone"], metrics["gain"] = float(theirs[target][0]), float(difference[0])
        metrics["gain_low"], metrics["gain_high"] = bounds(difference[1:])
    mean = np.nanmean([np.clip(draws, -1, None) for draws in ours.values()], axis=0)
    spec = replace(bundle.spec, metrics={"test": test})
    reference = choose_inputs(data.dataset, spec.density.n_channels)
    save_bundle(folder / "export", spec, bundle.members, reference)
    return test, Interval(float(mean[0]), *bounds(mean[1:]), n=_DRAWS)


def refit_bundle(
    folder: Path, data: StudyData, grouping: Any, members: Sequence[Evaluation], name: str
) -> Bundle:
    """The members of each group as a bundle in memory."""
    networks = {
        group: tuple(
            read_network(network_path(folder, _result(member, group.targets).key))
            for member in members
        )
        for group in grouping.groups
    }
    split = data.splits.split(data.split.test_fold, data.split.validation_folds[0])
    unseen = _unseen_predictions(folder, data, grouping, members)
    seen = np.setdiff1d(np.arange(len(data.dataset)), split.test)
    spec = BundleSpec(
        name=name,
        grouping=grouping,
        targets=tuple(data.targets.specs),
        density=replace(DensityFormat.of(data.dataset), n_channels=_channels(networks)),
        dataset={
            "name": data.dataset.name,
            "version": data.dataset.version,
            "hash": data.dataset.hash,
        },
        split={"id": data.splits.id, **data.split.model_dump(mode="json")},
        seen_ids=tuple(data.dataset.ids[row] for row in seen),
        residuals=_kept(residual_scale, unseen, data),
        intervals=_kept(conformal_widths, unseen, data),
        provenance={
            "taskgroup": __version__,
            "groups": [
                {
                    "targets": list(group.targets),
                    "members": [_result(m, group.targets).job.to_dict() for m in members],
                }
                for group in grouping.groups
            ],
        },
    )
    return Bundle(spec, networks)


def _channels(networks: Mapping[Group, Sequence[MultiTaskNetwork]]) -> int:
    """How many channels of a density the networks look at: a bundle asks for no more."""
    return max(network.view.in_channels for members in networks.values() for network in members)


def _result(member: Evaluation, targets: tuple[str, ...]) -> Any:
    return next(result for result in member.results if result.targets == targets)


def _unseen_predictions(
    folder: Path, data: StudyData, grouping: Any, members: Sequence[Evaluation]
) -> dict[str, tuple[NDArray, NDArray]]:
    """Per target truth and predictions of every member on the validation rows it did not train on."""
    found = {}
    for target in grouping.targets:
        truth, predicted = [], []
        for member in members:
            result = _result(member, grouping.serving(target).targets)
            fold = result.job.split["validation_fold"]
            rows = data.splits.split(data.split.test_fold, fold).validation
            values = np.load(prediction_path(folder, result.key), allow_pickle=False)
            predicted.append(values[:, result.targets.index(target)])
            truth.append(data.targets.column(target)[rows])
        found[target] = np.concatenate(truth), np.concatenate(predicted)
    return found


def _kept(
    measure: Callable[..., Any], unseen: Mapping[str, tuple[NDArray, NDArray]], data: StudyData
) -> dict[str, Any]:
    """What ``measure`` gives for each target, where it gives anything."""
    measured = {name: measure(data.targets.spec(name), *values) for name, values in unseen.items()}
    return {name: value for name, value in measured.items() if value is not None}


def skill_draws(frame: "pd.DataFrame", data: StudyData, rows: NDArray) -> dict[str, NDArray]:
    """Skill of predictions for each target on the rows, then on bootstrap draws of them; always the same draws."""
    counts = np.random.default_rng(0).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), size=_DRAWS
    )
    weights = np.concatenate([np.ones((1, len(rows))), counts])
    draws = {}
    for target in frame.attrs["units"]:
        truth, predicted = data.targets.column(target)[rows], frame[target].to_numpy(dtype=float)
        known = np.isfinite(truth)
        spec = data.targets.spec(target)
        draws[target] = weighted_metric(
            spec, "skill", truth[known], predicted[known], weights[:, known]
        )
    return draws


def bounds(draws: NDArray) -> tuple[float, float]:
    """The 95 % interval of bootstrap draws, those that are undefined left out; NaN where all are."""
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)
