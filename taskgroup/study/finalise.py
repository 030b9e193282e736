"""From a finished search to an exported bundle: assemble, train again, choose, test once.

- The validation value that a grouping was chosen by is too good (winner's curse), and one validation fold says little
  about a target with few labels. So the best few plans are trained again, with new seeds, each seed validated on
  another fold; the final grouping is assembled out of the groups trained so.
- These networks are the members of the bundle: nothing is trained a third time.
- The gain of a target is measured against the same recipe learning it alone, member by member.
- Test metrics are computed once, from the bundle.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskgroup.errors import TaskgroupError
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.results import ResultStore
from taskgroup.intervals import Interval, student_interval
from taskgroup.search.assembly import ScoredPlan, front, trained_groups
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.study.recorded_plans import recorded_plan
from taskgroup.study.refit import (
    Members,
    mean_value,
    member_gains,
    refit,
    refit_alone,
    refit_groups,
)
from taskgroup.study.release import release
from taskgroup.tracking import FinalRecord, TrialRecord, read_final, write_final
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)

# Number of the record of a grouping assembled after the search: behind those of all other assemblies.
_CHOSEN_NUMBER = 1000
_CHOSEN_NAME = "chosen"


@dataclass(frozen=True, eq=False)
class _Refitted:
    """A plan with the members that were trained again."""

    scored: ScoredPlan
    members: Members


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
        finalists = self._finalists(records)
        self.on_phase("reevaluate", len(finalists))
        refitted, results = self._refit_all(finalists)
        chosen = self._choose(refitted, results)
        members = refit(self.evaluator, chosen.plan)
        self.on_phase("refit", len(members))
        plan_alone, alone = refit_alone(self.evaluator, chosen.plan)
        gains_of, gains = self._gains(_Refitted(chosen, members), alone, refitted)
        self.on_phase("test", 0)
        scores = release(
            self.folder, self.data, chosen.plan, members, plan_alone, alone, self.config.name
        )
        final = FinalRecord(
            grouping=chosen.plan.grouping,
            name=chosen.name,
            search_value=chosen.value,
            reevaluation=student_interval([member.value for member in members]),
            test_value=scores.mean,
            gains=gains,
            test=scores.metrics,
            seeds=tuple(seed for seed, _ in self.data.member_repeats),
            gains_of=gains_of,
            test_gain=scores.mean_gain,
            plan=chosen.plan.to_dict(),
        )
        write_final(self.folder, final)
        return final

    def _finalists(self, records: Sequence[TrialRecord]) -> list[ScoredPlan]:
        """Return the best assembled plan, then the best trials and baselines; no plan twice."""
        finalists = self._assemblies()[-1:]
        plans = [finalist.plan for finalist in finalists]
        trials = [r for r in records if r.is_trial and r.objective is not None]
        for record in sorted(trials, key=lambda record: -record.objective):
            plan = recorded_plan(record, self.store)
            if self._is_small_enough(plan) and plan not in plans:
                finalists.append(ScoredPlan(record.name, plan, record.skills, record.keys, record.objective))
                plans.append(plan)
            if len(finalists) >= self.config.refit.top:
                break
        if not finalists:
            raise TaskgroupError(
                f"{self.folder}: no trial succeeded, so there is nothing to choose from; see the trials' fail_reason"
            )
        return finalists[: self.config.refit.top]

    def _assemblies(self) -> list[ScoredPlan]:
        """Return and record the best assemblies of more and more networks out of all the search has trained."""
        groups = trained_groups(self.store, self.data, self.data.search_repeats)
        self.on_phase("assemble", len(groups))
        if not groups:
            return []
        assemblies = front(groups, self.config.assembly, len(self.data.targets.names))
        for number, assembly in enumerate(assemblies):
            self.on_record(assembly.record(number))
        return assemblies

    def _is_small_enough(self, plan: Plan) -> bool:
        most_networks = self.config.assembly.max_networks
        return most_networks is None or len(plan.grouping) <= most_networks

    def _refit_all(
        self, finalists: Sequence[ScoredPlan]
    ) -> tuple[list[_Refitted], dict[str, GroupResult]]:
        """Train the finalists again, and every target alone; return what is whole, and all results by key.

        A network that cannot be trained leaves out its finalist, not the other networks of it.
        """
        refitted = []
        results: dict[str, GroupResult] = {}
        failure = None
        for finalist in finalists:
            members, trained, failure_of_this = refit_groups(self.evaluator, finalist.plan)
            results |= {result.key: result for result in trained}
            if failure_of_this is None:
                refitted.append(_Refitted(finalist, members))
            else:
                failure = failure_of_this
                _log.warning("%s was not trained again: %s", finalist.name, failure.reason)
        best = refitted[0].scored if refitted else finalists[0]
        _, trained_alone, _ = refit_groups(self.evaluator, best.plan.alone())
        results |= {result.key: result for result in trained_alone}
        if not results:
            raise TaskgroupError(
                f"none of the best groupings could be trained again: {failure.reason}"
            )
        return refitted, results

    def _choose(
        self, refitted: Sequence[_Refitted], results: Mapping[str, GroupResult]
    ) -> ScoredPlan:
        """Return the best assembly of all groups that were trained again, of no more networks than it takes.

        Every target learnt alone, which is trained again for the gains anyway, may be part of it.
        """
        groups = trained_groups(results.values(), self.data, self.data.member_repeats)
        assemblies = front(groups, self.config.assembly, len(self.data.targets.names))
        if not assemblies:
            raise TaskgroupError(
                "some targets could not be trained again, in no group; see the warnings above, "
                "and go on with 'taskgroup resume'"
            )
        plan = assemblies[-1].plan
        for each in refitted:
            if each.scored.plan == plan:
                return each.scored
        # Its value in the search, for comparison: its groups are in the cache, or nearly all of them.
        searched = self.evaluator.evaluate(plan, self.data.search_repeats)
        chosen = ScoredPlan(_CHOSEN_NAME, plan, searched.skills, searched.keys, searched.value)
        self.on_record(chosen.record(_CHOSEN_NUMBER))
        return chosen

    def _gains(
        self, chosen: _Refitted, alone: Members, refitted: Sequence[_Refitted]
    ) -> tuple[str, dict[str, Interval]]:
        """Return what joining gave each target, and the name of the grouping this was measured in."""
        gains = member_gains(chosen.scored.plan, chosen.members, alone)
        joint = [each for each in refitted if each.scored.plan.has_joint_groups]
        if gains or not joint:
            return chosen.scored.name, gains
        # One network per target was chosen: the best joint grouping shows what joining would have given.
        best = max(joint, key=lambda each: mean_value(each.members))
        _, alone = refit_alone(self.evaluator, best.scored.plan)
        return best.scored.name, member_gains(best.scored.plan, best.members, alone)
