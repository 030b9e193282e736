"""From a finished search to an exported bundle: assemble, train again, choose, test once.

The value a choice was made by is too good (winner's curse), and a validation fold says little of a target with few
labels. So the best few plans are trained again, with new seeds and each seed validated on another fold; out of the
groups so trained the final grouping is assembled. Those networks are the members of its bundle: nothing is trained a
third time. What each target gained is measured against the same recipe learning it alone, member by member. Test
metrics are computed once, from the bundle.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from taskgroup.errors import RunError, TaskgroupError
from taskgroup.execution.evaluator import Evaluation, Evaluator
from taskgroup.execution.executor import Failure
from taskgroup.execution.results import ResultStore
from taskgroup.grouping import Grouping
from taskgroup.search.assembly import front, trained_groups
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.study.release import release
from taskgroup.tracking import FinalRecord, Interval, TrialRecord, read_final, write_final
from taskgroup.training import mean_skill

_CHOSEN = 1000  # number of its record, behind all assembled ones


@dataclass(frozen=True)
class Finalist:
    """A plan that is trained again: where it comes from and the validation value it was picked by."""

    name: str
    plan: Plan
    value: float


def seed_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student t interval over repetitions with different seeds."""
    n, mean = len(values), float(np.mean(values))
    half = (
        float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
        if n > 1
        else float("nan")
    )
    return Interval(mean, mean - half, mean + half, n)


class Finaliser:
    """What follows the search; every step finds in the ResultStore what an earlier attempt has trained."""

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
        self.config, self.folder, self.data, self.store = config, folder, data, store
        self.evaluator, self.on_record, self.on_phase = evaluator, on_record, on_phase

    def run(self, records: Sequence[TrialRecord]) -> FinalRecord:
        """Bring a searched study to its end. Raises TaskgroupError if no trial succeeded."""
        done = read_final(self.folder)
        if done is not None:
            return done
        finalists = self._finalists(records)
        self.on_phase("reevaluate", len(finalists))
        again = {}
        for each in finalists:
            members, failure = _members(self.evaluator, each.plan)
            if failure is None:
                again[each] = members
        if not again:
            raise TaskgroupError(
                f"none of the best groupings could be trained again: {failure.reason}"
            )
        first_alone, _ = _members(self.evaluator, alone_plan(next(iter(again)).plan))
        chosen = self._choice(again, first_alone)
        members = refit(self.evaluator, chosen.plan)
        self.on_phase("refit", len(members))
        alone = refit(self.evaluator, alone_plan(chosen.plan))
        compared, gains = chosen, member_gains(chosen.plan, members, alone)
        joint = [each for each in again if joins(each.plan)]
        if not gains and joint:  # what the best company would have given
            compared = max(joint, key=lambda each: _mean_value(again[each]))
            gains = member_gains(
                compared.plan, again[compared], refit(self.evaluator, alone_plan(compared.plan))
            )
        self.on_phase("test", 0)
        test, value = release(self.folder, self.data, chosen.plan, members, alone, self.config.name)
        final = FinalRecord(
            grouping=chosen.plan.grouping,
            name=chosen.name,
            search_value=chosen.value,
            reevaluation=seed_interval([member.value for member in members]),
            test_value=value,
            gains=gains,
            test=test,
            seeds=tuple(seed for seed, _ in self.data.member_repeats),
            gains_of=compared.name,
        )
        write_final(self.folder, final)
        return final

    def _choice(
        self, again: Mapping[Finalist, list[Evaluation]], alone: list[Evaluation]
    ) -> Finalist:
        """The best assembly, of no more networks than it takes, of all groups that were trained again.

        Each target ``alone``, trained again for the gains anyway, may stand in it as well.
        """
        trained = [
            result
            for members in (*again.values(), alone)
            for member in members
            for result in member.results
        ]
        groups = trained_groups(
            {r.key: r for r in trained}.values(), self.data, self.data.member_repeats
        )
        plan = front(groups, self.config.assembly, len(self.data.targets.names))[-1].plan
        for finalist in again:
            if finalist.plan == plan:
                return finalist
        searched = self.evaluator.evaluate(
            plan, self.data.search_repeats
        )  # in the cache, or nearly all
        self.on_record(
            _assembled_record(_CHOSEN, "chosen", plan.grouping, searched.skills, searched.keys)
        )
        return Finalist("chosen", plan, searched.value)

    def _finalists(self, records: Sequence[TrialRecord]) -> list[Finalist]:
        """The best assembled plan, then the best trials and baselines, none twice."""
        groups = trained_groups(self.store, self.data, self.data.search_repeats)
        self.on_phase("assemble", len(groups))
        assembled = (
            front(groups, self.config.assembly, len(self.data.targets.names)) if groups else []
        )
        for number, each in enumerate(assembled):
            grouping = each.plan.grouping
            self.on_record(
                _assembled_record(
                    number, f"assembled-{len(grouping)}", grouping, each.skills, each.keys
                )
            )
        best = [
            Finalist(f"assembled-{len(a.plan.grouping)}", a.plan, a.value) for a in assembled[-1:]
        ]
        limit = self.config.assembly.max_networks
        trials = [r for r in records if r.objective is not None and r.kind in ("baseline", "trial")]
        for record in sorted(trials, key=lambda r: -r.objective):
            plan = self._plan_of(record)
            if (limit is None or len(plan.grouping) <= limit) and plan not in [
                f.plan for f in best
            ]:
                best.append(Finalist(record.name, plan, record.objective))
        if not best:
            raise TaskgroupError(
                "no trial succeeded, so there is nothing to choose from; see the trials' fail_reason"
            )
        return best[: self.config.refit.top]

    def _plan_of(self, record: TrialRecord) -> Plan:
        jobs = {
            result.targets: result.job
            for key in record.keys
            if (result := self.store.get(key)) is not None
        }
        if missing := [group for group in record.grouping.groups if group.targets not in jobs]:
            raise RunError(
                f"{self.folder}: {record.name} trained {missing[0]}, but results/ does not hold it under today's key; "
                "the run was made by another version of taskgroup, start a new one"
            )
        recipes = [
            Recipe(jobs[g.targets].model, jobs[g.targets].training) for g in record.grouping.groups
        ]
        return Plan(record.grouping, tuple(recipes))


def refit(evaluator: Evaluator, plan: Plan) -> list[Evaluation]:
    """The members of a plan's bundle; see ``StudyData.member_repeats``. Raises TaskgroupError if one fails."""
    members, failure = _members(evaluator, plan)
    if failure is not None:
        raise TaskgroupError(f"refit failed ({failure.kind}): {failure.reason}")
    return members


def member_gains(
    plan: Plan, members: Iterable[Evaluation], alone: Iterable[Evaluation]
) -> dict[str, Interval]:
    """Per target that has company, its skill in the plan minus that alone, paired by member."""
    joined = {
        target
        for group in plan.grouping.groups
        if len(group.targets) > 1
        for target in group.serves
    }
    pairs = [(each.skills, other.skills) for each, other in zip(members, alone, strict=True)]
    gains = {}
    for target in sorted(joined):
        found = [
            ours[target] - theirs[target]
            for ours, theirs in pairs
            if target in ours and target in theirs
        ]
        if found:
            gains[target] = seed_interval(found)
    return gains


def joins(plan: Plan) -> bool:
    """Whether any target has company."""
    return any(len(group.targets) > 1 for group in plan.grouping.groups)


def alone_plan(plan: Plan) -> Plan:
    """Every target alone, by the recipe of the group that serves it."""
    recipe_of = {target: recipe for group, recipe in plan for target in group.serves}
    grouping = Grouping.singles(plan.grouping.targets)
    return Plan(grouping, tuple(recipe_of[group.targets[0]] for group in grouping.groups))


def _members(evaluator: Evaluator, plan: Plan) -> tuple[list[Evaluation], Failure | None]:
    """All members trained at once, then one by one out of the cache; or what failed."""
    repeats = evaluator.data.member_repeats
    failure = evaluator.evaluate(plan, repeats, keep=True).failure
    return [] if failure else [evaluator.evaluate(plan, [repeat]) for repeat in repeats], failure


def _mean_value(members: Sequence[Evaluation]) -> float:
    return float(np.mean([member.value for member in members]))


def _assembled_record(
    number: int, name: str, grouping: Grouping, skills: Mapping[str, float], keys: Sequence[str]
) -> TrialRecord:
    return TrialRecord(
        number=number,
        kind="assembled",
        name=name,
        grouping=grouping,
        objective=mean_skill(skills),
        skills=dict(skills),
        gains={},
        settings={},
        state="COMPLETE",
        fail_kind=None,
        fail_reason=None,
        keys=tuple(keys),
        n_cached=len(keys),
        seconds=0.0,
    )
