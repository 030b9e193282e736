"""Training a plan again with new seeds: its members, what its targets gained, and the bundle of its networks."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup import __version__
from taskgroup.errors import TaskgroupError
from taskgroup.execution.evaluator import Evaluation, Evaluator
from taskgroup.execution.executor import Failure
from taskgroup.execution.results import network_path, prediction_path
from taskgroup.export import Bundle, BundleSpec, DensityFormat, conformal_widths, residual_scale
from taskgroup.export.network_file import read_network
from taskgroup.grouping import Group, Grouping
from taskgroup.intervals import Interval, student_interval
from taskgroup.models import MultiTaskNetwork
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)

Members = list[Evaluation]
"""The trainings of a plan with each of ``StudyData.member_repeats``."""


def refit(evaluator: Evaluator, plan: Plan) -> Members:
    """Train the members of a plan's bundle. Raises TaskgroupError: a training failed."""
    members, failure = try_refit(evaluator, plan)
    if failure is not None:
        raise TaskgroupError(f"refit failed ({failure.kind}): {failure.reason}")
    return members


def try_refit(evaluator: Evaluator, plan: Plan) -> tuple[Members, Failure | None]:
    """Train the members of a plan's bundle, and return them; or no members and the failure."""
    members, _, failure = refit_groups(evaluator, plan)
    return members, failure


def refit_groups(
    evaluator: Evaluator, plan: Plan
) -> tuple[Members, tuple[GroupResult, ...], Failure | None]:
    """Train the members of a plan's bundle; return them, the results of all that could be trained, and the failure.

    There are members only where there is no failure.
    """
    repeats = evaluator.data.member_repeats
    # All at once, so that the executor can use all its workers; each member then comes out of the cache.
    evaluation = evaluator.evaluate(plan, repeats, keep=True)
    if evaluation.failure is not None:
        return [], evaluation.results, evaluation.failure
    members = [evaluator.evaluate(plan, [repeat]) for repeat in repeats]
    return members, evaluation.results, None


def refit_alone(evaluator: Evaluator, plan: Plan) -> tuple[Plan, Members]:
    """Train every target of a plan alone; return the plan of the targets for which that was possible, and its members.

    Raises TaskgroupError: no target could be trained alone.
    """
    alone = plan.alone()
    members, results, failure = refit_groups(evaluator, alone)
    if failure is None:
        return alone, members
    n_trained = Counter(result.targets for result in results)
    trained = []
    for group, recipe in alone:
        if n_trained[group.targets] == len(evaluator.data.member_repeats):
            trained.append((group, recipe))
        else:
            _log.warning(
                "%s could not be trained alone, so its gain is not known: %s",
                group.targets[0],
                failure.reason,
            )
    if not trained:
        raise TaskgroupError(f"no target could be trained alone ({failure.kind}): {failure.reason}")
    targets = [group.targets[0] for group, _ in trained]
    recipes = {group.targets[0]: recipe for group, recipe in trained}
    grouping = Grouping.singles(targets)
    partial = Plan(grouping, tuple(recipes[group.targets[0]] for group in grouping.groups))
    return partial, refit(evaluator, partial)


def member_gains(plan: Plan, members: Members, alone: Members) -> dict[str, Interval]:
    """Return the gain of each target in a joint group: its skill minus that learnt alone, paired by member.

    ``alone`` are the members of ``plan.alone()``. A target whose skill is undefined in every pair is left out.
    """
    joint_targets: set[str] = set()
    for group in plan.grouping.groups:
        if len(group.targets) > 1:
            joint_targets.update(group.serves)
    gains = {}
    for target in sorted(joint_targets):
        differences = []
        for joint_member, lone_member in zip(members, alone, strict=True):
            if target in joint_member.skills and target in lone_member.skills:
                differences.append(joint_member.skills[target] - lone_member.skills[target])
        if differences:
            gains[target] = student_interval(differences)
    return gains


def refit_bundle(folder: Path, data: StudyData, plan: Plan, members: Members, name: str) -> Bundle:
    """Return the bundle, in memory, of a plan's refitted networks, which lie in the run folder."""
    networks = {group: _networks(folder, group, members) for group in plan.grouping.groups}
    unseen = _predictions_of_unseen_rows(folder, data, plan.grouping, members)
    seen_rows = np.setdiff1d(np.arange(len(data.dataset)), data.test_rows)
    dataset = data.dataset
    # Of the plan that learns targets alone, some may be missing. Bundles answer in the units of the dataset.
    specs = dataset.targets.select(data.targets.names).specs
    targets = [spec for spec in specs if spec.name in plan.grouping.targets]
    spec = BundleSpec(
        name=name,
        grouping=plan.grouping,
        targets=tuple(targets),
        density=replace(DensityFormat.of(dataset), n_channels=_channels(networks)),
        dataset={"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        split={"id": data.splits.id, **data.split.model_dump(mode="json")},
        seen_ids=tuple(dataset.ids[row] for row in seen_rows),
        residuals=_per_target(residual_scale, unseen, data),
        intervals=_per_target(conformal_widths, unseen, data),
        provenance=_provenance(plan, members),
    )
    return Bundle(spec, networks)


def _networks(
    folder: Path, group: Group, members: Iterable[Evaluation]
) -> tuple[MultiTaskNetwork, ...]:
    keys = [_result(member, group.targets).key for member in members]
    return tuple(read_network(network_path(folder, key)) for key in keys)


def _channels(networks: Mapping[Group, Sequence[MultiTaskNetwork]]) -> int:
    """Return the number of density channels that the networks read: a bundle asks for no more."""
    return max(network.view.in_channels for members in networks.values() for network in members)


def _provenance(plan: Plan, members: Members) -> dict[str, Any]:
    groups = []
    for group in plan.grouping.groups:
        jobs = [_result(member, group.targets).job.to_dict() for member in members]
        groups.append({"targets": list(group.targets), "members": jobs})
    return {"taskgroup": __version__, "plan": plan.to_dict(), "groups": groups}


def _result(member: Evaluation, targets: tuple[str, ...]) -> GroupResult:
    return next(result for result in member.results if result.targets == targets)


def _predictions_of_unseen_rows(
    folder: Path, data: StudyData, grouping: Grouping, members: Members
) -> dict[str, tuple[NDArray, NDArray]]:
    """Return, per target, truth and prediction of every member on the validation rows it was not trained on."""
    unseen = {}
    for target in grouping.targets:
        truth, predicted = [], []
        for member in members:
            result = _result(member, grouping.serving(target).targets)
            fold = result.job.split["validation_fold"]
            rows = data.splits.split(data.split.test_fold, fold).validation
            predictions = np.load(prediction_path(folder, result.key), allow_pickle=False)
            predicted.append(predictions[:, result.targets.index(target)])
            truth.append(data.targets.column(target)[rows])
        unseen[target] = np.concatenate(truth), np.concatenate(predicted)
    return unseen


def _per_target(
    measure: Callable[..., Any], unseen: Mapping[str, tuple[NDArray, NDArray]], data: StudyData
) -> dict[str, Any]:
    """Return what a measure of the errors gives for each target, where it gives anything."""
    measured = {}
    for name, (truth, predicted) in unseen.items():
        value = measure(data.targets.spec(name), truth, predicted)
        if value is not None:
            measured[name] = value
    return measured
