"""Jobs (GroupJob) and their results (GroupResult): the unit of caching, never trained twice."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from taskgroup.errors import ConfigError
from taskgroup.files import plain_json
from taskgroup.training.config import TrainConfig

if TYPE_CHECKING:
    from taskgroup.models import ModelConfig

Metrics = dict[str, dict[str, float | None]]
Skills = dict[str, float | None]
_SPLIT_KEYS = frozenset({"by", "folds", "seed", "test_fold", "validation_fold"})
_SPLIT_OPTIONS = frozenset({"train_share"})
# Raised when equal jobs no longer give equal results: those of earlier versions are then trained again.
_MEANING = 4


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text. Raises ValueError: NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class GroupJob:
    """One network to train.

    ``targets`` are sorted; ``dataset`` is what ``load_dataset`` takes and does not enter the key: a moved store is the
    same data, ``dataset_hash`` says which. ``split`` holds by, folds, seed, test_fold and validation_fold, and
    train_share where not all training rows are used. Fidelity (epochs, grid) is part of ``training`` and ``model``.

    Raises ConfigError: no or repeated targets, or a split with missing or unknown keys.
    """

    targets: tuple[str, ...]
    model: "ModelConfig"
    training: TrainConfig
    seed: int
    dataset: str
    dataset_hash: str
    split: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        targets = tuple(sorted(self.targets))
        if not targets or len(set(targets)) < len(targets):
            raise ConfigError(f"job: targets must be given and distinct, found {list(targets)}")
        if set(self.split) - _SPLIT_OPTIONS != _SPLIT_KEYS:
            raise ConfigError(
                f"job: split must have the keys {sorted(_SPLIT_KEYS)}, found {sorted(self.split)}"
            )
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "split", dict(self.split))

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of everything that decides the outcome: equal keys are trained once."""
        from taskgroup.models import meaning

        content = self.to_dict()
        del content["dataset"]
        content["meaning"] = {"training": _MEANING} | meaning(self.model)
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` undoes it."""
        return {
            "targets": list(self.targets),
            "model": self.model.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "seed": self.seed,
            "dataset": self.dataset,
            "dataset_hash": self.dataset_hash,
            "split": dict(self.split),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "GroupJob":
        """Return the job that ``to_dict`` described."""
        from taskgroup.models import ModelConfig

        return cls(
            targets=tuple(content["targets"]),
            model=ModelConfig.model_validate(content["model"]),
            training=TrainConfig.model_validate(content["training"]),
            seed=content["seed"],
            dataset=content["dataset"],
            dataset_hash=content["dataset_hash"],
            split=content["split"],
        )


@dataclass(frozen=True)
class EpochReport:
    """One epoch: number (from 1), validation skill of each target (None: undefined), mean training loss, seconds."""

    epoch: int
    skills: Skills
    loss: float
    seconds: float


@dataclass(frozen=True)
class GroupResult:
    """Result of training one job, measured on the validation rows, each at the epoch the others chose (BestEpochs).

    ``metrics[target]`` has ``skill`` and ``n`` (labels), then r2, r2_natural, mae, rmse for regression (r2 in the space
    of the target's transform, the others in its unit) or auc, accuracy, log_loss for classification; a value that does
    not exist (a constant column, one class only) is None. ``curve`` has the skills of each epoch, ``train_curve`` its
    mean training loss. ``seconds`` is wall time, ``peak_memory`` bytes that a recorded step takes on a GPU (else 0).
    """

    job: GroupJob
    metrics: Metrics = field(hash=False)
    curve: tuple[Skills, ...] = field(hash=False)
    seconds: float
    best_epoch: int
    epochs_run: int
    n_parameters: int
    train_curve: tuple[float | None, ...] = ()
    peak_memory: int = 0

    @property
    def key(self) -> str:
        """The key of the job."""
        return self.job.key

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of the group, sorted."""
        return self.job.targets

    @property
    def skills(self) -> Skills:
        """Skill of each target."""
        return {target: values["skill"] for target, values in self.metrics.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON without NaN; ``from_dict`` undoes it."""
        content = {name: getattr(self, name) for name in _stored_fields()}
        return {"key": self.key, "job": self.job.to_dict()} | plain_json(content)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "GroupResult":
        """Return the result that ``to_dict`` described; fields of earlier versions that are gone are left out."""
        values = {name: content[name] for name in _stored_fields()}
        values["curve"] = tuple(values["curve"])
        values["train_curve"] = tuple(values["train_curve"])
        return cls(job=GroupJob.from_dict(content["job"]), **values)


def _stored_fields() -> list[str]:
    """Return the fields of a GroupResult that are stored as they are; a job has a form of its own."""
    names = [field.name for field in fields(GroupResult)]
    names.remove("job")
    return names
