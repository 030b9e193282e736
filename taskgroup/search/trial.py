"""One trial: from its settings to a plan, to trained networks, to a record."""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from pydantic import ValidationError

from taskgroup.errors import InputError, TrainingFailed
from taskgroup.execution.evaluator import Evaluation, Evaluator
from taskgroup.execution.executor import TargetSkills, all_go_on
from taskgroup.grouping import Group, Grouping
from taskgroup.search.assembly import trained_groups
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.history import SearchHistory
from taskgroup.search.optuna_trials import TrialSettings
from taskgroup.search.pruner import GroupPruner
from taskgroup.spec.objective import ObjectiveConfig
from taskgroup.spec.plan import Plan, Recipe, StudyData, flat_settings
from taskgroup.spec.space import settings_of
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)


class TrialRunner:
    """Runs trials, in several threads at once if need be.

    Parameters
    ----------
    builder: makes groupings out of clustering settings.
    history: the finished trials.
    pruner: says which groups to stop early; None trains all of them to the end.
    objective: what is optimised.
    should_prune: says of a trial, given its number, an epoch and its value, whether to stop it as a whole.
    """

    def __init__(
        self,
        builder: GroupingBuilder,
        history: SearchHistory,
        pruner: GroupPruner | None,
        objective: ObjectiveConfig,
        should_prune: Callable[[int, int, float], bool],
    ) -> None:
        self._builder = builder
        self._history = history
        self._pruner = pruner
        self._objective = objective
        self._should_prune = should_prune
        self._stopping = threading.Event()

    def start(self) -> None:
        """Let trials run (again)."""
        self._stopping.clear()

    def stop(self) -> None:
        """End running trials at their next epoch."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether running trials are being ended."""
        return self._stopping.is_set()

    def run(self, trial: TrialSettings, evaluator: Evaluator) -> TrialRecord | None:
        """Train a trial and return its record; None where it was stopped before its end."""
        start = time.monotonic()
        try:
            plan = self._plan(trial)
        except (InputError, TrainingFailed, ValidationError) as error:
            reason = str(error).splitlines()[0]
            return self._failed_record(trial, reason, time.monotonic() - start)
        on_epoch = partial(self._go_on, trial)
        evaluation = evaluator.evaluate(
            plan, evaluator.data.search_repeats, on_epoch, should_stop=self._stopping.is_set
        )
        if self.is_stopping and not evaluation.skills:
            return None
        self._learn(evaluation.results, evaluator.data)
        if evaluation.failure is not None:
            failure = evaluation.failure
            _log.warning("trial %d: %s: %s", trial.number, failure.kind, failure.reason)
        return self._record(trial, plan, evaluation, time.monotonic() - start)

    def learn_recorded(self, records: Iterable[TrialRecord], evaluator: Evaluator) -> None:
        """Let the pruner know the groups of recorded trials."""
        results: dict[str, GroupResult] = {}
        for record in records:
            for key in record.keys:
                result = evaluator.store.get(key)
                if result is not None:
                    results[key] = result
        self._learn(list(results.values()), evaluator.data)

    def _learn(self, results: Sequence[GroupResult], data: StudyData) -> None:
        if self._pruner is None:
            return
        groups = trained_groups(results, data, data.search_repeats)
        self._pruner.learn(groups, results)

    def _plan(self, trial: TrialSettings) -> Plan:
        if trial.plan is not None:
            return trial.plan
        grouping_settings, model, training = settings_of(trial.settings)
        grouping = self._builder.grouping(grouping_settings)
        return Plan.uniform(grouping, Recipe(model, training))

    def _go_on(
        self, trial: TrialSettings, epoch: int, skills: Mapping[Group, TargetSkills]
    ) -> Collection[Group]:
        """Return the groups of a trial that go on after an epoch; the evaluator asks.

        Baselines are compared with, so they must end. So must what a model has proposed: it learns from ends only, and
        would propose the likes of a stopped group again.
        """
        if self.is_stopping:
            return ()
        if trial.is_baseline:
            return all_go_on(epoch, skills)
        value = self._value_in_training(skills)
        if self._should_prune(trial.number, epoch, value):
            return ()
        if self._pruner is None or trial.plan is not None:
            return all_go_on(epoch, skills)
        stopped = self._pruner.stopped(epoch, skills)
        return [group for group in skills if group not in stopped]

    def _value_in_training(self, skills: Mapping[Group, TargetSkills]) -> float:
        """Return the value of the groups in training; those that have ended or were cached are not in it."""
        served = {}
        for group, skill_of_target in skills.items():
            served |= {
                name: skill_of_target[name] for name in group.serves if name in skill_of_target
            }
        return self._objective.skill(served)

    def _record(
        self, trial: TrialSettings, plan: Plan, evaluation: Evaluation, seconds: float
    ) -> TrialRecord:
        failure = evaluation.failure
        is_complete = math.isfinite(evaluation.value)
        state = "PRUNED"
        if is_complete:
            state = "COMPLETE"
        elif failure is not None:
            state = "FAIL"
        skills = evaluation.skills if is_complete else {}
        return TrialRecord(
            number=trial.number,
            kind=trial.kind,
            name=trial.name,
            grouping=plan.grouping,
            objective=self._value(plan, evaluation) if is_complete else None,
            skills=skills,
            gains=self._gains(skills),
            settings=flat_settings(trial.settings),
            state=state,
            fail_kind=failure.kind if failure else None,
            fail_reason=failure.reason if failure else None,
            keys=evaluation.keys,
            n_cached=evaluation.n_cached,
            seconds=seconds,
            curve=evaluation.curve,
            metrics=_metrics(plan.grouping, evaluation.results) if is_complete else {},
            plan=plan.to_dict(),
        )

    def _value(self, plan: Plan, evaluation: Evaluation) -> float:
        """Return what the study optimises, of a trial whose networks are all trained."""
        n_repeats = len(evaluation.results) / len(plan.grouping)
        seconds = [result.seconds / n_repeats for result in evaluation.results]
        value = self._objective.skill(evaluation.skills)
        return value - self._objective.price_of(len(plan.grouping), sum(seconds))

    def _failed_record(self, trial: TrialSettings, reason: str, seconds: float) -> TrialRecord:
        """Return the record of a trial whose settings give no plan."""
        return TrialRecord(
            number=trial.number,
            kind=trial.kind,
            name=trial.name,
            # A record needs a grouping, and this trial has none.
            grouping=Grouping.singles(self._builder.targets),
            objective=None,
            skills={},
            gains={},
            settings=flat_settings(trial.settings),
            state="FAIL",
            fail_kind="error",
            fail_reason=reason,
            keys=(),
            n_cached=0,
            seconds=seconds,
        )

    def _gains(self, skills: Mapping[str, float]) -> dict[str, float]:
        alone = self._history.skills_alone
        return {
            target: skill - alone[target] for target, skill in skills.items() if target in alone
        }


def _metrics(grouping: Grouping, results: Sequence[GroupResult]) -> dict[str, dict[str, float]]:
    """Return the metrics of each target, from its serving group and the first validation fold."""
    metrics_of_target: dict[str, dict[str, float]] = {}
    for result in results:
        for target, metrics in result.metrics.items():
            serving_targets = grouping.serving(target).targets
            if result.targets != serving_targets or target in metrics_of_target:
                continue
            defined = {name: value for name, value in metrics.items() if value is not None}
            metrics_of_target[target] = defined
    return metrics_of_target
