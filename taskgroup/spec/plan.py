"""What a study trains: a grouping with a recipe for each of its groups, on fixed rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from taskgroup.datasets import Dataset, Splits, TargetTable, load_dataset
from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.grouping import Group, Grouping
from taskgroup.models import ModelConfig
from taskgroup.spec.config import LowFidelity, SplitConfig, StudyConfig
from taskgroup.training import GroupJob, TrainConfig

Repeat = tuple[int, int]  # seed, validation fold
MEMBER_SEEDS = (
    1000  # members of bundles draw their seeds from here: no network of the search is one
)


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of one network."""

    model: ModelConfig
    training: TrainConfig

    def lowered(self, to: LowFidelity) -> "Recipe":
        """The recipe with the settings of a low fidelity. Raises ValidationError: they do not go together."""
        return Recipe(
            self.model.updated(to.model),
            TrainConfig.model_validate(self.training.model_dump() | to.training),
        )


@dataclass(frozen=True)
class Plan:
    """A grouping and the recipe of each of its groups, in the order of ``grouping.groups``."""

    grouping: Grouping
    recipes: tuple[Recipe, ...]

    @classmethod
    def uniform(cls, grouping: Grouping, recipe: Recipe) -> "Plan":
        """Every group trained by the same recipe."""
        return cls(grouping, (recipe,) * len(grouping))

    def lowered(self, to: LowFidelity) -> "Plan":
        """The same grouping, every group by a cheaper recipe."""
        return Plan(self.grouping, tuple(recipe.lowered(to) for recipe in self.recipes))

    def __iter__(self) -> Iterator[tuple[Group, Recipe]]:
        return iter(zip(self.grouping.groups, self.recipes, strict=True))


class StudyData:
    """The rows and targets of a study, and the jobs that train on them.

    ``train_share`` is the share of the training rows that jobs use, for learning curves.

    Raises ConfigError: an unknown target, fewer than two targets, folds that do not exist, or validation rows that
    can tell no target's skill.
    """

    def __init__(self, config: StudyConfig, train_share: float = 1.0) -> None:
        self.train_share = train_share
        self._config = config
        self.dataset: Dataset = load_dataset(config.dataset)
        self.name = config.dataset
        known = self.dataset.targets.names
        for target in config.targets or ():
            if target not in known:
                raise ConfigError(
                    f"targets: dataset '{config.dataset}' has no '{target}'; {did_you_mean(target, known)}"
                )
        self.targets: TargetTable = self.dataset.targets.select(config.targets or known)
        if len(self.targets.names) < 2:
            raise ConfigError(
                f"targets: a study groups at least two targets, found {list(self.targets.names)}"
            )
        self.targets.check()
        _check_folds(config.split)
        self.split = config.split
        self.splits: Splits = self.dataset.splits(
            by=config.split.by, folds=config.split.folds, seed=config.split.seed
        )
        self._check_labels()

    def _check_labels(self) -> None:
        """Raise ConfigError where the search could not tell of any target how well it is learnt."""
        most = 0
        for fold in self.split.validation_folds:
            values = self.targets.values[self.splits.split(self.split.test_fold, fold).validation]
            for column in values.T:
                known = column[np.isfinite(column)]
                if len(np.unique(known)) > 1:
                    return
                most = max(most, len(known))
        raise ConfigError(
            f"split: skill needs two different values in a validation fold, found at most {most} labelled rows of any "
            f"target in fold {', '.join(map(str, self.split.validation_folds))} of {self.split.folds}: more rows are "
            "needed, or fewer folds"
        )

    @cached_property
    def training_rows(self) -> np.ndarray:
        """Rows that neither test nor the search's validation looks at; label affinities are computed on them."""
        rows = set(range(len(self.dataset)))
        for fold in self.split.validation_folds:
            rows &= set(self.splits.split(self.split.test_fold, fold).train.tolist())
        return np.array(sorted(rows))

    @cached_property
    def search_repeats(self) -> tuple[Repeat, ...]:
        """What the search trains of every group."""
        return tuple((self._config.search.seed, fold) for fold in self.split.validation_folds)

    @cached_property
    def member_repeats(self) -> tuple[Repeat, ...]:
        """What is trained of every group of a bundle: new seeds, validated on all folds but the test fold in turn."""
        folds = [fold for fold in range(self.split.folds) if fold != self.split.test_fold]
        first = self._config.search.seed + MEMBER_SEEDS
        return tuple((first + i, folds[i % len(folds)]) for i in range(self._config.refit.members))

    def job(
        self, targets: Sequence[str], recipe: Recipe, seed: int, validation_fold: int
    ) -> GroupJob:
        """One network to train."""
        split = {
            "by": self.split.by,
            "folds": self.split.folds,
            "seed": self.split.seed,
            "test_fold": self.split.test_fold,
            "validation_fold": validation_fold,
        }
        if self.train_share < 1:
            split["train_share"] = self.train_share
        return GroupJob(
            tuple(targets), recipe.model, recipe.training, seed, self.name, self.dataset.hash, split
        )

    def jobs(self, plan: Plan, repeats: Sequence[Repeat]) -> dict[tuple[Group, Repeat], GroupJob]:
        """The jobs of a plan by group and repeat."""
        return {
            (group, each): self.job(group.targets, recipe, *each)
            for group, recipe in plan
            for each in repeats
        }

    def labelled_rows(self, job: GroupJob) -> int:
        """Rows with a label of any of its targets: what a job's time grows with."""
        return int(np.isfinite(self.targets.select(job.targets).values).any(axis=1).sum())


def flat_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings by section as ``hp/*`` and ``grouping/*``, for records and MLflow."""
    grouping = {f"grouping/{name}": value for name, value in settings["grouping"].items()}
    others = {
        f"hp/{s}.{name}": value
        for s in ("model", "training")
        for name, value in settings[s].items()
    }
    return grouping | others


def _check_folds(split: SplitConfig) -> None:
    for fold in (split.test_fold, *split.validation_folds):
        if fold >= split.folds:
            raise ConfigError(f"split: folds are numbered 0 to {split.folds - 1}, found {fold}")
    if split.test_fold in split.validation_folds:
        raise ConfigError(f"split: the test fold {split.test_fold} must not be a validation fold")
