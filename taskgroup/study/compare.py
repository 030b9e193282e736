"""Test skill of the searched grouping beside that of groupings made without a search."""

import contextlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InfeasibleError, RunError
from taskgroup.execution import make_executor
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.results import ResultStore
from taskgroup.export import load_bundle, predict
from taskgroup.grouping import Group, Grouping
from taskgroup.search.affinities import Affinities
from taskgroup.search.assembly import TrainedGroup, assemble, front, trained_groups
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.history import baseline_records
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.sections import CORRELATION, SINGLES, TOGETHER
from taskgroup.spec.space import settings_of
from taskgroup.study.recorded_plans import bundle_plan
from taskgroup.study.refit import refit, refit_bundle
from taskgroup.study.release import mean_draws, skill_draws
from taskgroup.tracking import read_final, read_records, read_study

if TYPE_CHECKING:
    import pandas as pd

SEARCHED = "searched"
ASSEMBLED = "assembled"
# Groupings that need no search, in the order they are shown; random groups are no method anyone would use.
UNSEARCHED = (SINGLES, TOGETHER, CORRELATION)

FurtherPlans = Callable[[list[TrainedGroup]], dict[str, Plan]]
"""Makes plans, by name, out of the groups that were refitted."""


@dataclass(frozen=True, eq=False)
class ComparedGrouping:
    """One grouping on the test rows: the skill of each target on the rows, then on bootstrap draws of them.

    Draws are paired: draw i has the same rows for every grouping of a comparison. ``predictions`` are those of
    ``predict`` for the rows.
    """

    name: str
    grouping: Grouping
    draws: dict[str, NDArray[np.float64]]
    predictions: "pd.DataFrame"

    @property
    def mean_draws(self) -> NDArray[np.float64]:
        """Mean skill over targets, each clipped below at -1, on the rows and the draws."""
        return mean_draws(self.draws)


def compare(folder: Path, scored: Container[str] | None = None) -> list[ComparedGrouping]:
    """Test the exported grouping, the best of at most a third of the networks, and those made without a search.

    All have the members and seeds of the study's own bundle, and each group the best recipe that the search tried for
    it. This uses test rows, by which nothing may be chosen any more: the study must have ended.

    Parameters
    ----------
    folder: the run folder.
    scored: ids of the test rows that count; by default all.

    Raises RunError: the study has not ended.
    """
    config = load_study(read_study(folder).config)
    if read_final(folder) is None:
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    data = StudyData(config)

    def fewer_networks(groups: list[TrainedGroup]) -> dict[str, Plan]:
        return _third(SEARCHED, groups, config)

    made = plans(folder, data, ResultStore(folder / "results"))
    return _compare(folder, config, data, made, fewer_networks, scored)


def compare_unsearched(
    folder: Path, config: StudyConfig, scored: Container[str] | None = None
) -> list[ComparedGrouping]:
    """Test the groupings made without a search, by the space's default recipe, and what is assembled out of them.

    ``assembled`` takes each target from whichever of these groups serves it best on the rows its members were not
    trained on; ``assembled, third`` does so with a third of the networks. Parameters are those of ``compare``.
    """
    data = StudyData(config)

    def assemblies(groups: list[TrainedGroup]) -> dict[str, Plan]:
        best = front(groups, config.assembly, len(data.targets.names))[-1].plan
        return {ASSEMBLED: best} | _third(ASSEMBLED, groups, config)

    made = _unsearched_plans(folder, config, data)
    return _compare(folder, config, data, made, assemblies, scored)


def _unsearched_plans(folder: Path, config: StudyConfig, data: StudyData) -> dict[str, Plan]:
    """Return the groupings that need no search, trained by the space's default recipe."""
    settings, model, training = settings_of(config.space.baseline())
    recipe = Recipe(model, training)
    targets = data.targets.names
    affinities = Affinities(data, folder, recipe, config.search.seed)
    builder = GroupingBuilder(targets, settings, affinities)
    groupings = {
        SINGLES: Grouping.singles(targets),
        TOGETHER: Grouping.together(targets),
        CORRELATION: builder.grouping(settings),
    }
    return {name: Plan.uniform(grouping, recipe) for name, grouping in groupings.items()}


def _compare(
    folder: Path,
    config: StudyConfig,
    data: StudyData,
    made: Mapping[str, Plan],
    further: FurtherPlans,
    scored: Container[str] | None,
) -> list[ComparedGrouping]:
    """Refit and test plans, then ``further`` ones made out of their groups; nothing is trained twice."""
    rows = held_out_rows(data, scored)
    executor = make_executor(config.executor.kind, folder, config.executor.threads, "0")
    with contextlib.closing(executor):
        store = ResultStore(folder / "results")
        evaluator = Evaluator(data, store, executor, config.executor.time_limit)
        results = {}
        for plan in made.values():
            for member in refit(evaluator, plan):
                results |= {result.key: result for result in member.results}
        groups = trained_groups(results.values(), data, data.member_repeats)
        compared = []
        for name, plan in (dict(made) | further(groups)).items():
            # A plan refitted above comes out of the cache.
            members = refit(evaluator, plan)
            bundle = refit_bundle(folder, data, plan, members, name)
            predictions = predict(bundle, data.dataset, rows=rows)
            draws = skill_draws(predictions, data, rows)
            compared.append(ComparedGrouping(name, plan.grouping, draws, predictions))
        return compared


def held_out_rows(data: StudyData, scored: Container[str] | None = None) -> NDArray[np.int64]:
    """Return the rows of the test fold; where ``scored`` is given, only those with these ids."""
    if scored is None:
        return data.test_rows
    ids = data.dataset.ids
    rows = [row for row in data.test_rows if ids[row] in scored]
    return np.array(rows)


def plans(folder: Path, data: StudyData, store: ResultStore) -> dict[str, Plan]:
    """Return the exported plan of a study that has ended, and its baselines with their best recipes."""
    plan_of_name = {SEARCHED: bundle_plan(load_bundle(folder / "export"))}
    groups = trained_groups(store, data, data.search_repeats)
    baselines = baseline_records(read_records(folder))
    for name in UNSEARCHED:
        if name not in baselines:
            continue
        plan = _best_recipes(baselines[name].grouping, groups)
        if plan is not None:
            plan_of_name[name] = plan
    return plan_of_name


def _third(name: str, groups: Sequence[TrainedGroup], config: StudyConfig) -> dict[str, Plan]:
    """Return the best assembly of at most a third as many networks as targets; none where these cannot serve all."""
    targets = {target for group in groups for target in group.candidate.tasks}
    with contextlib.suppress(InfeasibleError):
        assembly = assemble(groups, config.assembly, networks=ceil(len(targets) / 3))
        return {f"{name}, third": assembly.plan}
    return {}


def _best_recipes(grouping: Grouping, groups: Sequence[TrainedGroup]) -> Plan | None:
    """Return the grouping with the recipe that served each of its groups best; None if a group is missing."""
    recipes = []
    for group in grouping.groups:
        trained = [each for each in groups if tuple(sorted(each.candidate.tasks)) == group.targets]
        if not trained:
            return None
        best = max(trained, key=lambda each: _served_skill(each, group))
        recipes.append(best.recipe)
    return Plan(grouping, tuple(recipes))


def _served_skill(trained: TrainedGroup, group: Group) -> float:
    return sum(trained.candidate.scores[target] for target in group.serves)
