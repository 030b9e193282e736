"""Training settings of one network, which a study may search over."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from taskgroup.training.balance import BALANCERS


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
    batch_size: int = Field(32, ge=2, le=65_536, description="rows per step")
    lr: float = Field(
        2e-3, gt=0, le=1, description="highest AdamW learning rate, after the warm-up"
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
        "huber", description="loss of standardised regression targets; classes: cross-entropy"
    )
    balance: str = Field("mean", description="balancer that combines the losses of several targets")
    augment: bool = Field(
        True, description="random exact invariances (origin, axes, reversal) at each step"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of convolutions and matrix products; auto: bfloat16 where it is faster",
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
    def _known_balancer(cls, name: str) -> str:
        BALANCERS.find(name)
        return name
