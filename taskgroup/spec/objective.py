"""What a study optimises: the weighted mean skill of its targets, less what networks cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.training.metrics import LEAST_SKILL

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PriceConfig(BaseModel):
    """Mean skill that a network must bring to be worth having."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: _Amount = Field(0.0, description="Mean skill that each network must bring.")
    seconds: _Amount = Field(
        0.0, description="Mean skill that each second of training a network must bring."
    )

    @property
    def is_free(self) -> bool:
        """Whether networks cost nothing."""
        return self.networks == 0 and self.seconds == 0

    def of(self, seconds: float) -> float:
        """Return the price of a network whose training took so long."""
        return self.networks + self.seconds * seconds


class ObjectiveConfig(BaseModel):
    """What a study optimises: the weighted mean skill of its targets, less what networks cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, _Amount] = Field(
        default_factory=dict,
        description="Weights of targets in the mean, 1 where not given; a target of weight 0 only helps.",
    )
    focus: tuple[str, ...] = Field(
        (),
        description="Only these targets count, all others may help; default: all count.",
    )
    price: PriceConfig = Field(
        PriceConfig(), description="What a network costs, in mean skill; default: nothing."
    )

    @model_validator(mode="after")
    def _agree(self) -> "ObjectiveConfig":
        for name in self.weights:
            if self.focus and name not in self.focus:
                raise ValueError(
                    f"weights must be of targets in focus, where focus is given, found '{name}'"
                )
        return self

    def check(self, targets: Sequence[str]) -> None:
        """Raise ConfigError: a name that is no target of the study, or nothing counts."""
        for key, names in (("weights", self.weights), ("focus", self.focus)):
            for name in names:
                if name not in targets:
                    raise ConfigError(
                        f"objective.{key}: the study has no target '{name}'; {did_you_mean(name, targets)}"
                    )
        if not any(self.weights_of(targets).values()):
            raise ConfigError(
                "objective.weights: at least one target must have a positive weight, but all are 0"
            )

    @property
    def is_plain(self) -> bool:
        """Whether the value is the mean skill of all targets."""
        return not self.weights and not self.focus and self.price.is_free

    def weights_of(self, targets: Sequence[str]) -> dict[str, float]:
        """Return the weight of each target."""
        counted = self.focus or targets
        return {name: self.weights.get(name, 1.0) if name in counted else 0.0 for name in targets}

    def skill(self, skills: Mapping[str, float | None]) -> float:
        """Return the weighted mean skill, each clipped below at -1; undefined ones are left out, NaN where all are."""
        weights = self.weights_of(list(skills))
        total, weight_sum = 0.0, 0.0
        for name, skill in skills.items():
            if skill is not None and math.isfinite(skill):
                total += weights[name] * max(skill, LEAST_SKILL)
                weight_sum += weights[name]
        return total / weight_sum if weight_sum else math.nan

    def price_of(self, networks: int, seconds: float) -> float:
        """Return the price of so many networks, whose trainings took so many seconds in all."""
        return networks * self.price.networks + seconds * self.price.seconds

    def value(self, skills: Mapping[str, float | None], seconds: Sequence[float]) -> float:
        """Return the weighted mean skill less prices; ``seconds`` are the training times of the networks, one each."""
        return self.skill(skills) - self.price_of(len(seconds), sum(seconds))
