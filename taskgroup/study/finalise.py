"""From a finished search to an exported bundle: train again where the choice hangs on it, choose, test once.

- The validation value that a grouping was chosen by is too good (winner's curse), and one validation fold says little
  about a target with few labels. So networks are trained again with new seeds, each seed validated on another fold,
  until more training cannot change the choice (``taskgroup.study.racing``).
- These networks are the members of the bundle: nothing is trained a third time.
- The gain of a target is measured against the same recipe learning it alone, member by member.
- Test metrics are computed once, from the bundle.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from taskgroup.errors import TaskgroupError
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.results import ResultStore
from taskgroup.grouping import Grouping
from taskgroup.grouping.expected import ExpectedAssembly
from taskgroup.intervals import Interval, student_interval
from taskgroup.search.assembly import ScoredPlan, front, trained_groups
from taskgroup.search.history import baseline_records
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.spec.sections import SINGLES, TOGETHER
from taskgroup.study.racing import Race
from taskgroup.study.recorded_plans import recorded_plan
from taskgroup.study.refit import Members, member_gains, refit, refit_alone, try_refit
from taskgroup.study.release import release
from taskgroup.tracking import FinalRecord, TrialRecord, read_final, write_final
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)

# Number of the record of a grouping assembled after the search: behind those of all other assemblies.
_CHOSEN_NUMBER = 1000
_CHOSEN_NAME = "chosen"


class Finaliser:
    """Brings a searched study to its end; every step finds in the ResultStore what an earlier attempt has trained.

    Parameters
    ----------
    config: the study.
    folder: the run folder.
    data: the rows and targets of the study.
    store: the results of the run.
    evaluator: trains what is missing.
    on_record: called with the record of every assembled grouping.
    on_phase: called with the name of every step and the number of things in it.
    """

    def __init__(
        self,
        config: StudyConfig,
        folder: Path,
        data: StudyData,
        store: ResultStore,
        evaluator: Evaluator,
        on_record: Callable[[TrialRecord], None],
        on_phase: Callable[[str, int], None],
    ) -> None:
        self.config = config
        self.folder = folder
        self.data = data
        self.store = store
        self.evaluator = evaluator
        self.on_record = on_record
        self.on_phase = on_phase

    def run(self, records: Sequence[TrialRecord]) -> FinalRecord:
        """Return the final record, made now or by an earlier run. Raises TaskgroupError: nothing could be trained."""
        existing = read_final(self.folder)
        if existing is not None:
            return existing
        assemblies = self._assemblies()
        race = Race(
            self.config,
            self.data,
            self.evaluator,
            self._searched(records),
            self._alternatives(records),
        )
        self.on_phase("reevaluate", self.config.refit.top)
        plan, expected = race.run()
        chosen = self._scored(plan, assemblies, records)
        members = refit(self.evaluator, plan)
        self.on_phase("refit", len(members))
        plan_alone, alone = refit_alone(self.evaluator, plan)
        gains_of, gains = self._gains(chosen, members, alone, records)
        self.on_phase("test", 0)
        odds = _other_than(expected, plan.grouping)
        scores = release(
            self.folder, self.data, plan, members, plan_alone, alone, self.config.name, odds
        )
        value = self.config.objective.skill
        final = FinalRecord(
            grouping=plan.grouping,
            name=chosen.name,
            search_value=chosen.value,
            reevaluation=student_interval([value(member.skills) for member in members]),
            test_value=scores.mean,
            gains=gains,
            test=scores.metrics,
            seeds=tuple(seed for seed, _ in self.data.member_repeats),
            gains_of=gains_of,
            test_gain=scores.mean_gain,
            plan=plan.to_dict(),
            expected_gains=dict(expected.gains),
            probabilities=odds,
        )
        write_final(self.folder, final)
        return final

    def _searched(self, records: Sequence[TrialRecord]) -> list[GroupResult]:
        """Return the results of the search in the order of its trials."""
        keys = dict.fromkeys(key for record in records if record.is_trial for key in record.keys)
        results = [self.store.get(key) for key in keys]
        searched = [result for result in results if result is not None]
        return searched or self._best_trial_again(records)

    def _best_trial_again(self, records: Sequence[TrialRecord]) -> list[GroupResult]:
        """Train the best trial again and return its results: networks of older versions have other keys.

        Raises TaskgroupError: no trial has a value, or its networks cannot be trained.
        """
        trials = [record for record in records if record.is_trial and record.objective is not None]
        if not trials:
            raise TaskgroupError(
                f"{self.folder}: no trial succeeded, so there is nothing to choose from; see the trials' fail_reason"
            )
        best = max(trials, key=lambda record: record.objective)
        evaluation = self.evaluator.evaluate(
            recorded_plan(best, self.store), self.data.search_repeats
        )
        if evaluation.failure is not None:
            raise TaskgroupError(
                f"{self.folder}: trial {best.number} could not be trained again: {evaluation.failure.reason}"
            )
        return list(evaluation.results)

    def _alternatives(self, records: Sequence[TrialRecord]) -> dict[str, Grouping]:
        """Return the groupings of the baselines whose networks depend on the data."""
        found = {}
        for name, record in baseline_records(records).items():
            if name not in (SINGLES, TOGETHER) and record.objective is not None:
                found[name] = record.grouping
        return found

    def _assemblies(self) -> list[ScoredPlan]:
        """Return and record the best assemblies of more and more networks out of all the search has trained."""
        groups = trained_groups(self.store, self.data, self.data.search_repeats)
        self.on_phase("assemble", len(groups))
        if not groups:
            return []
        n_targets = len(self.data.targets.names)
        assemblies = front(groups, self.config.assembly, n_targets, self.config.objective)
        for number, assembly in enumerate(assemblies):
            self.on_record(assembly.record(number))
        return assemblies

    def _scored(
        self, plan: Plan, assemblies: Sequence[ScoredPlan], records: Sequence[TrialRecord]
    ) -> ScoredPlan:
        """Return the chosen plan with its value in the search, under the name it already has if it has one."""
        for assembly in assemblies:
            if assembly.plan == plan:
                return assembly
        for record in records:
            is_scored = record.is_trial and record.objective is not None
            if is_scored and recorded_plan(record, self.store) == plan:
                return ScoredPlan(record.name, plan, record.skills, record.keys, record.objective)
        # Its value in the search, for comparison: its groups are in the cache, or nearly all of them.
        searched = self.evaluator.evaluate(plan, self.data.search_repeats)
        seconds = [result.seconds for result in searched.results]
        value = self.config.objective.value(searched.skills, seconds)
        chosen = ScoredPlan(_CHOSEN_NAME, plan, searched.skills, searched.keys, value)
        self.on_record(chosen.record(_CHOSEN_NUMBER))
        return chosen

    def _gains(
        self,
        chosen: ScoredPlan,
        members: Members,
        alone: Members,
        records: Sequence[TrialRecord],
    ) -> tuple[str, dict[str, Interval]]:
        """Return what joining gave each target, and the name of the grouping this was measured in."""
        gains = member_gains(chosen.plan, members, alone)
        joint = self._best_joint(records)
        if gains or joint is None:
            return chosen.name, gains
        # One network per target was chosen: the best joint grouping shows what joining would have given.
        name, plan = joint
        joint_members, failure = try_refit(self.evaluator, plan)
        if failure is not None:
            _log.warning("%s was not trained again: %s", name, failure.reason)
            return chosen.name, gains
        _, alone = refit_alone(self.evaluator, plan)
        return name, member_gains(plan, joint_members, alone)

    def _best_joint(self, records: Sequence[TrialRecord]) -> tuple[str, Plan] | None:
        """Return name and plan of the best trial that learns targets together."""
        trials = [record for record in records if record.is_trial and record.objective is not None]
        for record in sorted(trials, key=lambda record: -record.objective):
            plan = recorded_plan(record, self.store)
            if plan.has_joint_groups:
                return record.name, plan
        return None


def _other_than(expected: ExpectedAssembly, grouping: Grouping) -> dict[str, float]:
    """Return the probabilities that the choice is better than other groupings; it is not compared with itself."""
    found = dict(expected.probabilities)
    if all(len(group.targets) == 1 for group in grouping.groups):
        found.pop(SINGLES, None)
    if len(grouping) == 1:
        found.pop(TOGETHER, None)
    return found
