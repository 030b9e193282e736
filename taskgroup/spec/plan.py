"""What a study trains: a plan (a grouping with one recipe per group), and the rows it is trained on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from taskgroup.datasets import Dataset, Splits, TargetTable, load_dataset
from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.grouping import Group, Grouping
from taskgroup.models import ModelConfig
from taskgroup.spec.sections import SplitConfig, StudyConfig
from taskgroup.training import GroupJob, TrainConfig

Repeat = tuple[int, int]
"""One of several trainings of the same group: its seed and its validation fold."""

# Members of a bundle draw their seeds from here on, so that no network of the search is among them.
MEMBER_SEEDS = 1000

# How the settings of each section of a space begin in records and in MLflow.
_PREFIXES = {"grouping": "grouping/", "model": "hp/model.", "training": "hp/training."}


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of one network."""

    model: ModelConfig
    training: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON, defaults included: a later version may have others."""
        return {
            "model": self.model.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that ``to_dict`` described."""
        return cls(
            ModelConfig.model_validate(content["model"]),
            TrainConfig.model_validate(content["training"]),
        )

    @classmethod
    def of_job(cls, job: GroupJob) -> "Recipe":
        """Return the recipe a network was trained by."""
        return cls(job.model, job.training)


@dataclass(frozen=True)
class Plan:
    """A grouping and the recipe of each of its groups, in the order of ``grouping.groups``.

    A plan says all that is needed to train a grouping (again). Trial records and bundles hold the plan they were made
    from, so that nobody has to find it out again.
    """

    grouping: Grouping
    recipes: tuple[Recipe, ...]

    @classmethod
    def uniform(cls, grouping: Grouping, recipe: Recipe) -> "Plan":
        """Return a plan that trains every group by the same recipe."""
        return cls(grouping, (recipe,) * len(grouping))

    @property
    def has_joint_groups(self) -> bool:
        """Whether any network learns more than one target."""
        return any(len(group.targets) > 1 for group in self.grouping.groups)

    def alone(self) -> "Plan":
        """Return the plan in which every target is learnt alone, by the recipe of the group that serves it."""
        recipe_of_target: dict[str, Recipe] = {}
        for group, recipe in self:
            recipe_of_target |= dict.fromkeys(group.serves, recipe)
        singles = Grouping.singles(self.grouping.targets)
        recipes = tuple(recipe_of_target[group.targets[0]] for group in singles.groups)
        return Plan(singles, recipes)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON: the grouping, its different recipes, and which of them each group has."""
        recipes = list(dict.fromkeys(self.recipes))
        return {
            "grouping": json.loads(self.grouping.to_json()),
            "recipes": [recipe.to_dict() for recipe in recipes],
            "recipe_of_group": [recipes.index(recipe) for recipe in self.recipes],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Plan":
        """Return the plan that ``to_dict`` described."""
        grouping = Grouping.from_json(json.dumps(content["grouping"]))
        recipes = [Recipe.from_dict(recipe) for recipe in content["recipes"]]
        return cls(grouping, tuple(recipes[number] for number in content["recipe_of_group"]))

    def __iter__(self) -> Iterator[tuple[Group, Recipe]]:
        return iter(zip(self.grouping.groups, self.recipes, strict=True))


class StudyData:
    """The rows and targets of a study, and the jobs that train on them.

    Parameters
    ----------
    config: the study.
    train_share: share of the training rows that jobs use; less than 1 for learning curves.

    Raises ConfigError: an unknown target, fewer than two targets, folds that do not exist, or validation rows on which
    no target's skill is defined.
    """

    def __init__(self, config: StudyConfig, train_share: float = 1.0) -> None:
        self._config = config
        self.train_share = train_share
        self.name = config.dataset
        self.dataset: Dataset = load_dataset(config.dataset)
        self.targets = self._selected_targets()
        self.split = config.split
        _check_folds(self.split)
        self.splits: Splits = self.dataset.splits(
            by=self.split.by, folds=self.split.folds, seed=self.split.seed
        )
        self._check_labels()

    def _selected_targets(self) -> TargetTable:
        known_names = self.dataset.targets.names
        names = self._config.targets or known_names
        for name in names:
            if name not in known_names:
                raise ConfigError(
                    f"targets: dataset '{self.name}' has no '{name}'; {did_you_mean(name, known_names)}"
                )
        # Extensive targets are learnt, and therefore correlated, per atom.
        targets = self.dataset.learnt_targets.select(names)
        if len(targets.names) < 2:
            raise ConfigError(
                f"targets: a study groups at least two targets, found {list(targets.names)}"
            )
        targets.check()
        self._config.objective.check(targets.names)
        return targets

    def _check_labels(self) -> None:
        """Raise ConfigError where no validation fold can tell the skill of any target."""
        most_labels = 0
        for fold in self.split.validation_folds:
            rows = self.splits.split(self.split.test_fold, fold).validation
            for labels in self.targets.values[rows].T:
                labels = labels[np.isfinite(labels)]
                if len(np.unique(labels)) > 1:
                    return
                most_labels = max(most_labels, len(labels))
        folds = ", ".join(map(str, self.split.validation_folds))
        raise ConfigError(
            f"split: skill needs two different values in a validation fold, found at most {most_labels} labelled rows "
            f"of any target in fold {folds} of {self.split.folds}: more rows are needed, or fewer folds"
        )

    @cached_property
    def training_rows(self) -> np.ndarray:
        """Rows outside the test fold and all validation folds; label affinities are computed on them."""
        rows = set(range(len(self.dataset)))
        for fold in self.split.validation_folds:
            split = self.splits.split(self.split.test_fold, fold)
            rows &= set(split.train.tolist())
        return np.array(sorted(rows))

    @cached_property
    def test_rows(self) -> np.ndarray:
        """Rows of the test fold."""
        return self.splits.split(self.split.test_fold, self.split.validation_folds[0]).test

    @cached_property
    def search_repeats(self) -> tuple[Repeat, ...]:
        """Trainings of each group during the search: one seed, every validation fold."""
        seed = self._config.search.seed
        return tuple((seed, fold) for fold in self.split.validation_folds)

    @cached_property
    def member_repeats(self) -> tuple[Repeat, ...]:
        """Trainings of each group of a bundle: new seeds, validated on all folds but the test fold in turn."""
        folds = list(range(self.split.folds))
        folds.remove(self.split.test_fold)
        first_seed = self._config.search.seed + MEMBER_SEEDS
        repeats = []
        for member in range(self._config.refit.members):
            fold = folds[member % len(folds)]
            repeats.append((first_seed + member, fold))
        return tuple(repeats)

    def job(
        self, targets: Sequence[str], recipe: Recipe, seed: int, validation_fold: int
    ) -> GroupJob:
        """Return the job of one network."""
        split = {
            "by": self.split.by,
            "folds": self.split.folds,
            "seed": self.split.seed,
            "test_fold": self.split.test_fold,
            "validation_fold": validation_fold,
        }
        # Left out where all rows are used, so that the keys of such jobs do not change.
        if self.train_share < 1:
            split["train_share"] = self.train_share
        return GroupJob(
            targets=tuple(targets),
            model=recipe.model,
            training=recipe.training,
            seed=seed,
            dataset=self.name,
            dataset_hash=self.dataset.hash,
            split=split,
        )

    def jobs(self, plan: Plan, repeats: Sequence[Repeat]) -> dict[tuple[Group, Repeat], GroupJob]:
        """Return the jobs of a plan by group and repeat."""
        jobs = {}
        for group, recipe in plan:
            for seed, fold in repeats:
                jobs[group, (seed, fold)] = self.job(group.targets, recipe, seed, fold)
        return jobs

    def labelled_rows(self, job: GroupJob) -> int:
        """Return the number of rows with a label of any target of a job; its training time grows with it."""
        labelled = np.isfinite(self.targets.select(job.targets).values)
        return int(labelled.any(axis=1).sum())


def flat_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return settings by section as one dict with keys ``grouping/*`` and ``hp/*``, for records and MLflow."""
    flat = {}
    for section, prefix in _PREFIXES.items():
        for name, value in settings[section].items():
            flat[prefix + name] = value
    return flat


def _check_folds(split: SplitConfig) -> None:
    for fold in (split.test_fold, *split.validation_folds):
        if fold >= split.folds:
            raise ConfigError(f"split: folds are numbered 0 to {split.folds - 1}, found {fold}")
    if split.test_fold in split.validation_folds:
        raise ConfigError(f"split: the test fold {split.test_fold} must not be a validation fold")
