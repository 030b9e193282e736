"""What the searched grouping is worth on test rows, beside the groupings one would have taken without a search."""

import contextlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InfeasibleError, RunError
from taskgroup.export import predict
from taskgroup.grouping import Grouping
from taskgroup.search.affinities import Affinities
from taskgroup.search.assemble import Trained, assemble, trained_groups
from taskgroup.search.config import StudyConfig, load_study
from taskgroup.search.executors import make_executor
from taskgroup.search.finalise import refit
from taskgroup.search.objective import Evaluator
from taskgroup.search.plan import Plan, Recipe, StudyData
from taskgroup.search.propose import Proposer
from taskgroup.search.release import refit_bundle, skill_draws
from taskgroup.search.results import ResultStore
from taskgroup.search.space import settings_of
from taskgroup.tracking import read_final, read_records, read_study


@dataclass(frozen=True, eq=False)
class Compared:
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


def compare(folder: Path, scored: Container[str] | None = None) -> list[Compared]:
    """Refit and test the groupings of ``plans`` with the members and seeds of the study's own bundle.

    ``scored`` are the ids of test rows that count, by default all.

    Every group gets the best recipe the search saw it with. Only for a study that has ended: what comes out here are
    test rows, by which nothing may be chosen any more. Raises RunError otherwise.
    """
    config = load_study(read_study(folder).config)
    if read_final(folder) is None:
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    data = StudyData(config)
    chosen = plans(folder, config, data, ResultStore(folder / "results"))
    return score_plans(folder, config, data, chosen, scored)


def compare_unsearched(folder: Path, config: StudyConfig, scored: Container[str] | None = None) -> list[Compared]:
    """The same for the groupings made without a search, by the space's default recipe, and what is assembled of them.

    *assembled* takes each target from whichever of these groups serves it best on the study's validation folds, by the
    networks of the search's seed; *assembled, third* does so with a third of the networks.
    """
    data = StudyData(config)
    settings, model, training = settings_of(config.space.baseline())
    recipe, seed = Recipe(model, training), config.search.seed
    targets = data.targets.names
    proposer = Proposer(targets, settings, Affinities(data, folder, recipe, seed))
    made = {
        "singles": Plan.uniform(Grouping.singles(targets), recipe),
        "together": Plan.uniform(Grouping.together(targets), recipe),
        "correlation": Plan.uniform(proposer.grouping(settings), recipe),
    }
    with _evaluator(folder, config, data) as evaluator:
        tried = [evaluator.evaluate(plan, seed, config.split.validation_folds) for plan in made.values()]
    groups = trained_groups({r.key: r for each in tried for r in each.results}.values(), data, seed)
    return score_plans(folder, config, data, [*made.items(), *_assembled("assembled", groups, config)], scored)


def score_plans(
    folder: Path,
    config: StudyConfig,
    data: StudyData,
    chosen: Iterable[tuple[str, Plan]],
    scored: Container[str] | None = None,
) -> list[Compared]:
    """Plans, refitted (what is in the run folder is not trained again), on the test rows of the study."""
    rows = held_out_rows(data, scored)
    found = []
    with _evaluator(folder, config, data) as evaluator:
        for name, plan in chosen:
            bundle = refit_bundle(folder, data, plan.grouping, refit(evaluator, config, plan), name)
            predicted = predict(bundle, data.dataset, rows=rows)
            found.append(Compared(name, plan.grouping, skill_draws(predicted, data, rows)))
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
    return rows if scored is None else np.array([row for row in rows if data.dataset.ids[row] in scored])


def plans(folder: Path, config: StudyConfig, data: StudyData, store: ResultStore) -> Iterator[tuple[str, Plan]]:
    """The best assembled plan, that of a third of the networks, and those made without a search."""
    groups = trained_groups(store, data, config.search.seed)
    yield from _assembled("searched", groups, config)
    without = {record.name: record.grouping for record in read_records(folder) if record.kind == "baseline"}
    for name in ("singles", "together", "correlation"):
        if name in without and (plan := _best_recipes(without[name], groups)) is not None:
            yield name, plan


def _assembled(name: str, groups: list[Trained], config: StudyConfig) -> Iterator[tuple[str, Plan]]:
    """The best assembled plan, and that of a third of the networks."""
    yield name, assemble(groups, config.assembly).plan
    third = ceil(len({target for group in groups for target in group.candidate.tasks}) / 3)
    with contextlib.suppress(InfeasibleError):  # no trained groups serve all targets with so few networks
        yield f"{name}, third", assemble(groups, config.assembly, third).plan


def _best_recipes(grouping: Grouping, groups: list[Trained]) -> Plan | None:
    """The grouping with, for each of its groups, the recipe that served its targets best; None if one is missing."""
    recipes = []
    for group in grouping.groups:
        known = [each for each in groups if tuple(sorted(each.candidate.tasks)) == group.targets]
        if not known:
            return None
        best = max(known, key=lambda each: sum(each.candidate.scores[target] for target in group.serves))
        recipes.append(best.recipe)
    return Plan(grouping, tuple(recipes))
