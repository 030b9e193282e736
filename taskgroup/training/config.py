"""How one network is trained: the settings a study may search over."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class TrainConfig(BaseModel):
    """Training settings of one group; part of a GroupResult's key, so every field changes what is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training rows")
    pretrain: int = Field(
        0,
        ge=0,
        le=10_000,
        description="epochs in which the backbone first learns the composition from the density of all training rows",
    )
    batch_size: int = Field(32, ge=2, le=65_536, description="rows a step")
    lr: float = Field(
        2e-3, gt=0, le=1, description="AdamW learning rate at its highest, after the warm-up"
    )
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="AdamW weight decay, on weights of two or more dimensions"
    )
    warmup: float = Field(
        0.1,
        ge=0,
        le=0.9,
        description="fraction of all steps with a rising rate; then cosine to zero",
    )
    grad_clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    loss: Literal["huber", "mse"] = Field(
        "huber", description="of standardised regression targets; classes: BCE"
    )
    balance: str = Field(
        "mean", description="how the losses of several targets are combined, a balancer's name"
    )
    augment: bool = Field(
        True, description="random exact invariances (origin, axes, reversal) at each step"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of convolutions and matrix products; auto: bfloat16 where the device gains by it",
    )
    patience: int = Field(
        0,
        ge=0,
        description="stop after this many epochs without a better validation skill; 0: never",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the averaged weights that are validated and kept; 0: off",
    )

    @field_validator("balance")
    @classmethod
    def _known(cls, name: str) -> str:
        from taskgroup.errors import did_you_mean
        from taskgroup.training.balance import balancer_names

        if name not in balancer_names():
            raise ValueError(f"no balancer '{name}'; {did_you_mean(name, balancer_names())}")
        return name
