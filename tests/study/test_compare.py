"""What the searched grouping is worth beside those made without a search, on the same test rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taskgroup.errors import RunError
from taskgroup.execution import ResultStore
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.study.compare import ComparedGrouping, compare, compare_unsearched, plans
from taskgroup.tracking import write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_config: Callable) -> Study:
    return Study(make_config(), tmp_path_factory.mktemp("run") / "small").run()


@pytest.fixture(scope="module")
def found(study: Study) -> dict[str, ComparedGrouping]:
    return {each.name: each for each in compare(study.folder)}


def test_groupings_with_and_without_a_search_stand_beside_each_other(
    found: dict[str, ComparedGrouping],
):
    assert {"searched", "singles", "together", "correlation"} <= set(found)
    assert len(found["singles"].grouping) == 4
    assert len(found["together"].grouping) == 1
    if "searched, third" in found:
        assert len(found["searched, third"].grouping) <= 2


def test_every_group_has_the_recipe_that_validated_best(study: Study):
    data, store = StudyData(study.config), ResultStore(study.folder / "results")
    chosen = plans(study.folder, data, store)
    for group, recipe in chosen["singles"]:
        known = [
            r for r in store
            if r.targets == group.targets and r.job.seed == study.config.search.seed
            and r.job.split["validation_fold"] in study.config.split.validation_folds
        ]  # fmt: skip
        best = max(known, key=lambda r: r.skills[group.targets[0]])
        assert recipe.training == best.job.training


def test_the_mean_is_that_of_the_targets_and_draws_are_paired(found: dict[str, ComparedGrouping]):
    for each in found.values():
        mean = np.mean([max(-1.0, draws[0]) for draws in each.draws.values()])
        assert each.mean_draws[0] == pytest.approx(mean)
        assert len(each.mean_draws) == 1001
    one, other = found["singles"].draws["volume"], found["together"].draws["volume"]
    assert np.corrcoef(one[1:], other[1:])[0, 1] > 0.2  # hard rows are hard for both


def test_a_comparison_trains_nothing_twice(study: Study, found: dict[str, ComparedGrouping]):
    before = len(ResultStore(study.folder / "results"))
    again = {each.name: each for each in compare(study.folder)}
    assert len(ResultStore(study.folder / "results")) == before
    np.testing.assert_array_equal(again["searched"].mean_draws, found["searched"].mean_draws)


def test_a_study_that_has_not_ended_shows_no_test_rows(study: Study, tmp_path: Path):
    from taskgroup.tracking import read_study

    tmp_path.joinpath("run").mkdir()
    write_study(tmp_path / "run", read_study(study.folder))
    with pytest.raises(RunError, match=r"the study has not ended; go on with: taskgroup resume"):
        compare(tmp_path / "run")


def test_groupings_that_need_no_search_are_tested_without_one(
    make_config: Callable, tmp_path: Path
):
    found = {each.name: each for each in compare_unsearched(tmp_path, make_config())}
    assert list(found)[:4] == ["singles", "together", "correlation", "assembled"]
    recipes = {result.job.training for result in ResultStore(tmp_path / "results")}
    assert len(recipes) == 1
    assert all(set(each.draws) == set(each.grouping.targets) for each in found.values())


def test_what_is_assembled_of_them_serves_each_target_by_the_group_best_on_validation_rows(
    make_config: Callable, tmp_path: Path
):
    found = {each.name: each.grouping for each in compare_unsearched(tmp_path, make_config())}
    of_members: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for result in ResultStore(tmp_path / "results"):
        of_members.setdefault(result.targets, []).append(result.skills)
    skill_of = {
        targets: {target: np.mean([skills[target] for skills in members]) for target in targets}
        for targets, members in of_members.items()
    }
    assert {len(members) for members in of_members.values()} == {3}
    best: dict[str, float] = {}
    for skills in skill_of.values():
        best |= {target: max(skill, best.get(target, skill)) for target, skill in skills.items()}
    served = {
        target: skill_of[g.targets][target]
        for g in found["assembled"].groups
        for target in g.serves
    }
    assert served == pytest.approx(best)
    if "assembled, third" in found:
        assert len(found["assembled, third"]) <= 2
