"""From a finished search to an exported bundle: assemble, train again, choose, refit, test once.

The value a choice was made by is too good (winner's curse). So the best few plans are trained again with new seeds and
the choice among them is made on those; what each target gained is measured against the same recipe learning it alone,
seed by seed. The chosen plan is then refitted and its test metrics are computed, once, from the exported bundle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from taskgroup.errors import RunError, TaskgroupError
from taskgroup.grouping import Grouping
from taskgroup.search.assemble import Assembled, front, trained_groups
from taskgroup.search.config import StudyConfig
from taskgroup.search.objective import Evaluation, Evaluator
from taskgroup.search.plan import Plan, Recipe, StudyData
from taskgroup.search.release import release
from taskgroup.search.results import ResultStore
from taskgroup.tracking import FinalRecord, Interval, TrialRecord, read_final, write_final
from taskgroup.training import mean_skill

REFIT_SEEDS = 1000  # refits draw their seeds from here, re-evaluations from 1: no network is used for both


@dataclass(frozen=True)
class Finalist:
    """A plan that is trained again: where it comes from and the validation value it was picked by."""

    name: str
    plan: Plan
    value: float


@dataclass(frozen=True)
class Reevaluation:
    """Skills of a finalist with new seeds, one mapping a seed."""

    finalist: Finalist
    skills: tuple[dict[str, float], ...]

    @property
    def values(self) -> list[float]:
        """Mean skill of each seed."""
        return [mean_skill(skills) for skills in self.skills]


def seed_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student t interval over repetitions with different seeds."""
    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
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
        self.folds = config.split.validation_folds

    def run(self, records: Sequence[TrialRecord]) -> FinalRecord:
        """Bring a searched study to its end. Raises TaskgroupError if no trial succeeded."""
        done = read_final(self.folder)
        if done is not None:
            return done
        finalists = self._finalists(records)
        self.on_phase("reevaluate", len(finalists))
        again = [found for finalist in finalists if (found := self._reevaluate(finalist)) is not None]
        if not again:
            raise TaskgroupError("none of the best plans could be trained again; see the trials' fail_reason")
        chosen = max(again, key=lambda each: (float(np.mean(each.values)), -len(each.finalist.plan.grouping)))
        joint = [each for each in again if _joins(each.finalist.plan)]
        compared = chosen if chosen in joint or not joint else max(joint, key=lambda each: float(np.mean(each.values)))
        gains = self._gains(compared)
        self.on_phase("refit", self.config.refit.members)
        members = refit(self.evaluator, self.config, chosen.finalist.plan)
        alone = refit(self.evaluator, self.config, alone_plan(chosen.finalist.plan))
        self.on_phase("test", 0)
        test, value = release(self.folder, self.data, chosen.finalist.plan, members, alone, self.config.name)
        final = FinalRecord(
            grouping=chosen.finalist.plan.grouping,
            name=chosen.finalist.name,
            search_value=chosen.finalist.value,
            reevaluation=seed_interval(chosen.values),
            test_value=value,
            gains=gains,
            test=test,
            seeds=self._seeds(),
            gains_of=compared.finalist.name,
        )
        write_final(self.folder, final)
        return final

    def _finalists(self, records: Sequence[TrialRecord]) -> list[Finalist]:
        """The best assembled plan, then the best trials and baselines, none twice."""
        groups = trained_groups(self.store, self.data, self.config.search.seed)
        self.on_phase("assemble", len(groups))
        assembled = front(groups, self.config.assembly, len(self.data.targets.names)) if groups else []
        for number, each in enumerate(assembled):
            self.on_record(self._assembled_record(number, each))
        best = [Finalist(f"assembled-{len(a.plan.grouping)}", a.plan, a.value) for a in assembled[-1:]]
        limit = self.config.assembly.max_networks
        trials = [r for r in records if r.objective is not None and r.kind in ("baseline", "trial")]
        for record in sorted(trials, key=lambda r: -r.objective):
            plan = self._plan_of(record)
            if (limit is None or len(plan.grouping) <= limit) and plan not in [f.plan for f in best]:
                best.append(Finalist(record.name, plan, record.objective))
        if not best:
            raise TaskgroupError("no trial succeeded, so there is nothing to choose from; see the trials' fail_reason")
        return best[: self.config.reevaluation.top]

    def _plan_of(self, record: TrialRecord) -> Plan:
        jobs = {result.targets: result.job for key in record.keys if (result := self.store.get(key)) is not None}
        if missing := [group for group in record.grouping.groups if group.targets not in jobs]:
            raise RunError(
                f"{self.folder}: {record.name} trained {missing[0]}, but results/ does not hold it under today's key; "
                "the run was made by another version of taskgroup, start a new one"
            )
        recipes = [Recipe(jobs[g.targets].model, jobs[g.targets].training) for g in record.grouping.groups]
        return Plan(record.grouping, tuple(recipes))

    def _assembled_record(self, number: int, assembled: Assembled) -> TrialRecord:
        return TrialRecord(
            number=number,
            kind="assembled",
            name=f"assembled-{len(assembled.plan.grouping)}",
            grouping=assembled.plan.grouping,
            objective=assembled.value,
            skills=assembled.skills,
            gains={},
            settings={},
            state="COMPLETE",
            fail_kind=None,
            fail_reason=None,
            keys=assembled.keys,
            n_cached=len(assembled.keys),
            seconds=0.0,
        )

    def _seeds(self) -> tuple[int, ...]:
        return tuple(self.config.search.seed + 1 + i for i in range(self.config.reevaluation.seeds))

    def _reevaluate(self, finalist: Finalist) -> Reevaluation | None:
        """Train a finalist with each new seed; None if it cannot be trained."""
        found = [self.evaluator.evaluate(finalist.plan, seed, self.folds).skills for seed in self._seeds()]
        return Reevaluation(finalist, tuple(found)) if all(found) else None

    def _gains(self, chosen: Reevaluation) -> dict[str, Interval]:
        """Per target that has company: skill in its group minus skill alone by the same recipe, paired by seed."""
        plan = alone_plan(chosen.finalist.plan)
        joined = {t for g in chosen.finalist.plan.grouping.groups if len(g.targets) > 1 for t in g.serves}
        alone = [self.evaluator.evaluate(plan, seed, self.folds).skills for seed in self._seeds()]
        gains = {}
        for target in sorted(joined):
            pairs = [
                (a[target], b[target]) for a, b in zip(chosen.skills, alone, strict=True) if target in a and target in b
            ]
            if pairs:
                gains[target] = seed_interval([with_others - by_itself for with_others, by_itself in pairs])
        return gains


def refit(evaluator: Evaluator, config: StudyConfig, plan: Plan) -> list[Evaluation]:
    """The members of a bundle: new seeds, each validating on another fold, so that all rows but test are used."""
    members, folds = [], evaluator.data.other_folds
    for i in range(config.refit.members):
        seed = config.search.seed + REFIT_SEEDS + i
        evaluation = evaluator.evaluate(plan, seed, [folds[i % len(folds)]], keep=True)
        if evaluation.failure is not None:
            raise TaskgroupError(f"refit failed ({evaluation.failure.kind}): {evaluation.failure.reason}")
        members.append(evaluation)
    return members


def _joins(plan: Plan) -> bool:
    """Whether any target has company."""
    return any(len(group.targets) > 1 for group in plan.grouping.groups)


def alone_plan(plan: Plan) -> Plan:
    """Every target alone, by the recipe of the group that serves it."""
    recipe_of = {target: recipe for group, recipe in plan for target in group.serves}
    grouping = Grouping.singles(plan.grouping.targets)
    return Plan(grouping, tuple(recipe_of[group.targets[0]] for group in grouping.groups))
