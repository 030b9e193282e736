"""The exact choice out of trained groups, against a brute-force search."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest

from taskgroup.errors import InfeasibleError
from taskgroup.grouping import Candidate
from taskgroup.search.assembly import TrainedGroup, assemble, front, trained_groups
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.sections import AssemblyConfig
from taskgroup.spec.space import settings_of
from taskgroup.training import GroupResult, mean_skill


@pytest.fixture(scope="module")
def data(make_config: Callable) -> StudyData:
    return StudyData(make_config("split.validation_folds=[1, 2]"))


@pytest.fixture(scope="module")
def recipe(make_config: Callable) -> Recipe:
    _, model, training = settings_of(make_config().space.baseline())
    return Recipe(model, training)


def trained(recipe: Recipe, key: str = "", **scores: float) -> TrainedGroup:
    key = key or "+".join(scores)
    return TrainedGroup(Candidate(tasks=tuple(scores), scores=scores, key=key), recipe, (key,))


def result(data: StudyData, recipe: Recipe, fold: int, seed: int = 0, **skills) -> GroupResult:
    job = data.job(tuple(skills), recipe, seed, fold)
    metrics = {target: {"n": 8, "skill": skill} for target, skill in skills.items()}
    return GroupResult(job, metrics, (), 1.0, 4, 4, 10, (0.5,))


def test_a_group_is_trained_once_every_repeat_has_a_result(data, recipe):
    first = result(data, recipe, 1, level=0.5, spread=0.2)
    second = result(data, recipe, 2, level=0.7, spread=None)
    repeats = data.search_repeats
    assert repeats == ((0, 1), (0, 2))
    assert trained_groups([first], data, repeats) == []
    (group,) = trained_groups([second, first], data, repeats)
    assert group.candidate.scores == pytest.approx({"level": 0.6, "spread": 0.2})
    assert group.keys == (first.key, second.key)
    assert group.recipe == recipe


def test_results_of_other_seeds_rows_and_targets_are_left_out(data, recipe, make_config):
    both = [result(data, recipe, fold, level=0.5) for fold in (1, 2)]
    other_seed = [result(data, recipe, fold, seed=5, spread=0.5) for fold in (1, 2)]
    half = StudyData(make_config("split.validation_folds=[1, 2]"), train_share=0.5)
    fewer_rows = [result(half, recipe, fold, volume=0.5) for fold in (1, 2)]
    other_split = [
        GroupResult(
            replace(each.job, split={**each.job.split, "folds": 7}),
            each.metrics,
            (),
            1.0,
            4,
            4,
            10,
            (0.5,),
        )
        for each in (result(data, recipe, fold, level_too=0.5) for fold in (1, 2))
    ]
    everything = [*both, *other_seed, *fewer_rows, *other_split]
    groups = trained_groups(everything, data, data.search_repeats)
    assert [group.candidate.tasks for group in groups] == [("level",)]
    few_targets = StudyData(
        make_config("targets=[spread, volume]", "split.validation_folds=[1, 2]")
    )
    assert trained_groups(both, few_targets, few_targets.search_repeats) == []


def test_scores_are_clipped_below_and_an_undefined_skill_is_worth_nothing(data, recipe):
    results = [result(data, recipe, fold, level=-7.0, spread=None) for fold in (1, 2)]
    (group,) = trained_groups(results, data, data.search_repeats)
    assert group.candidate.scores == {"level": -1.0, "spread": 0.0}


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("networks", [1, 2, 3])
def test_an_assembly_is_the_best_of_all_choices(recipe, disjoint: bool, networks: int):
    pool = [
        trained(recipe, a=0.8), trained(recipe, b=0.7), trained(recipe, c=0.2),
        trained(recipe, a=0.75, b=0.78), trained(recipe, b=0.6, c=0.65),
        trained(recipe, a=0.5, b=0.5, c=0.5),
    ]  # fmt: skip
    values = []
    for size in range(1, networks + 1):
        for choice in combinations(pool, size):
            targets = [target for group in choice for target in group.candidate.tasks]
            if set(targets) != set("abc") or (disjoint and len(targets) != 3):
                continue
            best = {t: max(g.candidate.scores.get(t, -2) for g in choice) for t in "abc"}
            values.append(mean_skill(best))
    assembly = assemble(pool, AssemblyConfig(disjoint=disjoint), networks)
    assert assembly.value == pytest.approx(max(values))
    assert len(assembly.plan.grouping) <= networks
    assert assembly.name == f"assembled-{len(assembly.plan.grouping)}"


def test_of_two_recipes_for_one_set_of_targets_one_is_chosen(recipe):
    other = Recipe(recipe.model, recipe.training.model_copy(update={"lr": 0.5}))
    pool = [trained(recipe, "first", a=0.9, b=0.1), trained(other, "second", a=0.1, b=0.8)]
    assembly = assemble(pool, AssemblyConfig())
    assert len(assembly.plan.grouping) == 1
    assert assembly.keys in (("first",), ("second",))


def test_an_assembly_becomes_a_record_with_its_plan(recipe):
    assembly = assemble([trained(recipe, a=0.9), trained(recipe, b=0.5)], AssemblyConfig())
    record = assembly.record(3)
    assert (record.kind, record.number, record.name) == ("assembled", 3, "assembled-2")
    assert record.objective == pytest.approx(0.7)
    assert Plan.from_dict(record.plan) == assembly.plan


def test_the_front_has_more_networks_only_where_they_are_better(recipe):
    pool = [trained(recipe, a=0.8, b=0.8), trained(recipe, a=0.8), trained(recipe, b=0.8)]
    assert [len(each.plan.grouping) for each in front(pool, AssemblyConfig(), 2)] == [1]
    better = [trained(recipe, a=0.7, b=0.8), trained(recipe, a=0.9), trained(recipe, b=0.8)]
    assert [len(each.plan.grouping) for each in front(better, AssemblyConfig(), 2)] == [1, 2]
    assert [
        len(each.plan.grouping) for each in front(better, AssemblyConfig(max_networks=1), 2)
    ] == [1]


def test_too_few_networks_are_refused_and_left_out_of_the_front(recipe):
    pool = [trained(recipe, a=0.8), trained(recipe, b=0.8)]
    with pytest.raises(InfeasibleError):
        assemble(pool, AssemblyConfig(), networks=1)
    assert [len(each.plan.grouping) for each in front(pool, AssemblyConfig(), 2)] == [2]
