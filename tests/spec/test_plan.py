"""Plans, and the rows a study trains on."""

import json
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, TargetTable, write_store
from taskgroup.errors import ConfigError
from taskgroup.grouping import Group, Grouping
from taskgroup.spec.plan import Plan, Recipe, StudyData, flat_settings
from taskgroup.spec.space import settings_of
from tests.conftest import small_dataset


def test_a_study_whose_validation_rows_tell_nothing_is_refused(make_config, tmp_path: Path):
    whole = small_dataset()
    values = whole.targets.values.copy()
    values[whole.splits(by="formula", folds=5, seed=0).split(0, 1).validation[1:]] = np.nan
    table = TargetTable(whole.targets.specs, whole.ids, values)
    parts = whole.densities(np.arange(len(whole))), whole.lattices, whole.formulas, whole.formulas
    write_store(tmp_path / "data", Dataset.from_arrays("small", whole.ids, table, *parts))
    here = f"dataset={tmp_path / 'data'}"
    with pytest.raises(
        ConfigError, match="found at most 1 labelled rows of any target in fold 1 of 5"
    ):
        StudyData(make_config(here))
    StudyData(make_config(here, "split.validation_folds=[1, 2]"))  # fold 2 can tell


@pytest.fixture
def recipes(make_config) -> tuple[Recipe, Recipe]:
    """Two recipes that differ in their learning rate."""
    _, model, training = settings_of(make_config().space.baseline())
    return Recipe(model, training), Recipe(model, training.model_copy(update={"lr": 0.5}))


def test_a_plan_is_read_back_equal_from_json(recipes):
    first, second = recipes
    helped = Grouping((Group(("a", "b"), ("a",)), Group(("b", "c")), Group(("d",))))
    plan = Plan(helped, (first, second, first))
    content = json.loads(json.dumps(plan.to_dict()))
    assert Plan.from_dict(content) == plan
    assert len(content["recipes"]) == 2
    assert content["recipe_of_group"] == [0, 1, 0]


def test_a_stored_plan_holds_defaults_too_since_a_later_version_may_have_others(recipes):
    recipe = recipes[0]
    content = Plan.uniform(Grouping.singles(["a", "b"]), recipe).to_dict()["recipes"][0]
    assert set(content["model"]) == set(type(recipe.model).model_fields)
    assert set(content["training"]) == set(type(recipe.training).model_fields)


def test_a_plan_of_targets_alone_keeps_the_recipe_that_serves_each(recipes):
    first, second = recipes
    plan = Plan(Grouping((Group(("a", "b"), ("a",)), Group(("b", "c")))), (first, second))
    assert plan.has_joint_groups
    alone = plan.alone()
    assert not alone.has_joint_groups
    assert {group.targets[0]: recipe for group, recipe in alone} == {
        "a": first, "b": second, "c": second,
    }  # fmt: skip


def test_members_are_validated_on_all_folds_but_the_test_fold_in_turn(make_config):
    data = StudyData(make_config("refit.members=6", "search.seed=7", "split.test_fold=2"))
    assert data.member_repeats == (
        (1007, 0), (1008, 1), (1009, 3), (1010, 4), (1011, 0), (1012, 1),
    )  # fmt: skip


def test_training_rows_are_neither_test_nor_validation_rows(make_config):
    data = StudyData(make_config("split.validation_folds=[1, 3]"))
    seen = set(data.training_rows)
    assert seen.isdisjoint(data.test_rows)
    for fold in (1, 3):
        assert seen.isdisjoint(data.splits.split(0, fold).validation)
    assert len(seen) == 16  # two folds of five, of 40 rows


def test_settings_are_flattened_with_their_section_in_the_name():
    settings = {"grouping": {"method": "louvain"}, "model": {"width": 8}, "training": {"lr": 0.1}}
    assert flat_settings(settings) == {
        "grouping/method": "louvain", "hp/model.width": 8, "hp/training.lr": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("targets=[level, volum]",), "has no 'volum'; did you mean 'volume'"),
        (("targets=[level]",), "a study groups at least two targets"),
        (("split.test_fold=5",), "folds are numbered 0 to 4, found 5"),
        (("split.test_fold=1",), "test fold 1 must not be a validation fold"),
    ],
)
def test_targets_and_folds_that_do_not_exist_are_refused(make_config, overrides, message: str):
    with pytest.raises(ConfigError, match=message):
        StudyData(make_config(*overrides))
