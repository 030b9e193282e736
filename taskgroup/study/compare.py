"""What the searched grouping is worth on test rows, beside the groupings one would have taken without a search."""

import contextlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InfeasibleError, RunError
from taskgroup.execution import make_executor
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.results import ResultStore
from taskgroup.export import load_bundle, predict
from taskgroup.grouping import Grouping
from taskgroup.search.affinities import Affinities
from taskgroup.search.assembly import TrainedGroup, assemble, front, trained_groups
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.study.finalise import refit
from taskgroup.study.learning_curve import exported_plan
from taskgroup.study.release import refit_bundle, skill_draws
from taskgroup.tracking import read_final, read_records, read_study


@dataclass(frozen=True, eq=False)
class ComparedGrouping:
    """One grouping on the test rows: per target its skill and, behind it, that of bootstrap draws of the rows.

    ``draws`` are paired: draw i has the same rows for every grouping of a comparison.
    """

    name: str
    grouping: Grouping
    draws: dict[str, NDArray[np.float64]]

    @property
    def mean_draws(self) -> NDArray[np.float64]:
        """Mean skill over targets, each clipped below at -1, of the rows and of the draws."""
        return np.nanmean([np.clip(draws, -1, None) for draws in self.draws.values()], axis=0)


def compare(folder: Path, scored: Container[str] | None = None) -> list[ComparedGrouping]:
    """Test the exported grouping, the best of at most a third of the networks, and those made without a search.

    All with the members and seeds of the study's own bundle; each group with the best recipe the search saw it with.
    ``scored`` are the ids of test rows that count, by default all. Only for a study that has ended: what comes out here
    are test rows, by which nothing may be chosen any more. Raises RunError otherwise.
    """
    config = load_study(read_study(folder).config)
    if read_final(folder) is None:
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    data = StudyData(config)
    made = plans(folder, data, ResultStore(folder / "results"))
    return _compare(
        folder, config, data, made, lambda groups: _third("searched, third", groups, config), scored
    )


def compare_unsearched(
    folder: Path, config: StudyConfig, scored: Container[str] | None = None
) -> list[ComparedGrouping]:
    """The same for the groupings made without a search, by the space's default recipe, and what is assembled of them.

    *assembled* takes each target from whichever of these groups serves it best on the rows its members did not train
    on; *assembled, third* does so with a third of the networks.
    """
    data = StudyData(config)
    settings, model, training = settings_of(config.space.baseline())
    recipe, targets = Recipe(model, training), data.targets.names
    proposer = GroupingBuilder(
        targets, settings, Affinities(data, folder, recipe, config.search.seed)
    )
    made = {
        "singles": Plan.uniform(Grouping.singles(targets), recipe),
        "together": Plan.uniform(Grouping.together(targets), recipe),
        "correlation": Plan.uniform(proposer.grouping(settings), recipe),
    }

    def assembled(groups: list[TrainedGroup]) -> dict[str, Plan]:
        best = front(groups, config.assembly, len(targets))[-1].plan
        return {"assembled": best} | _third("assembled, third", groups, config)

    return _compare(folder, config, data, made, assembled, scored)


def _compare(
    folder: Path,
    config: StudyConfig,
    data: StudyData,
    made: dict[str, Plan],
    further: Callable[[list[TrainedGroup]], dict[str, Plan]],
    scored: Container[str] | None,
) -> list[ComparedGrouping]:
    """Plans refitted (what is in the run folder is not trained again), and ``further`` ones out of their groups."""
    rows = held_out_rows(data, scored)
    with _evaluator(folder, config, data) as evaluator:
        members = {name: refit(evaluator, plan) for name, plan in made.items()}
        results = {
            result.key: result
            for each in members.values()
            for member in each
            for result in member.results
        }
        plans_of = made | further(trained_groups(results.values(), data, data.member_repeats))
        found = []
        for name, plan in plans_of.items():
            bundle = refit_bundle(
                folder, data, plan.grouping, members.get(name) or refit(evaluator, plan), name
            )
            predicted = predict(bundle, data.dataset, rows=rows)
            found.append(ComparedGrouping(name, plan.grouping, skill_draws(predicted, data, rows)))
    return found


@contextlib.contextmanager
def _evaluator(folder: Path, config: StudyConfig, data: StudyData) -> Iterator[Evaluator]:
    executor = make_executor(config.executor.kind, folder, config.executor.threads, "0")
    try:
        yield Evaluator(data, ResultStore(folder / "results"), executor, config.executor.time_limit)
    finally:
        executor.close()


def held_out_rows(data: StudyData, scored: Container[str] | None = None) -> NDArray[np.int64]:
    """The rows of the test fold, those of the ids ``scored`` where given."""
    rows = data.splits.split(data.split.test_fold, data.split.validation_folds[0]).test
    return (
        rows
        if scored is None
        else np.array([row for row in rows if data.dataset.ids[row] in scored])
    )


def plans(folder: Path, data: StudyData, store: ResultStore) -> dict[str, Plan]:
    """The exported plan of a study that has ended, and its baselines."""
    found = {"searched": exported_plan(load_bundle(folder / "export"))}
    groups = trained_groups(store, data, data.search_repeats)
    without = {
        record.name: record.grouping for record in read_records(folder) if record.kind == "baseline"
    }
    for name in ("singles", "together", "correlation"):
        if name in without and (plan := _best_recipes(without[name], groups)) is not None:
            found[name] = plan
    return found


def _third(name: str, groups: list[TrainedGroup], config: StudyConfig) -> dict[str, Plan]:
    """The best assembly of at most a third of the networks; none where so few cannot serve all targets."""
    third = ceil(len({target for group in groups for target in group.candidate.tasks}) / 3)
    with contextlib.suppress(InfeasibleError):
        return {name: assemble(groups, config.assembly, third).plan}
    return {}


def _best_recipes(grouping: Grouping, groups: list[TrainedGroup]) -> Plan | None:
    """The grouping with, for each of its groups, the recipe that served its targets best; None if one is missing."""
    recipes = []
    for group in grouping.groups:
        known = [each for each in groups if tuple(sorted(each.candidate.tasks)) == group.targets]
        if not known:
            return None
        best = max(
            known, key=lambda each: sum(each.candidate.scores[target] for target in group.serves)
        )
        recipes.append(best.recipe)
    return Plan(grouping, tuple(recipes))
