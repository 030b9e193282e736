"""What a network looks like: the settings a study may search over."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from taskgroup.errors import did_you_mean

FieldName = Literal["density", "gradient", "laplacian", "reduced_gradient"]
Width = Annotated[float, Field(gt=0, le=5)]


class ModelConfig(BaseModel):
    """Backbone, view and heads of one network; part of a GroupResult's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = Field("msa3dcnn", description="msa3dcnn, resnet3d, descriptors, or a plug-in's name")
    width: int = Field(16, ge=2, le=512, description="channels of the first stage; doubled by each further one")
    stages: int = Field(2, ge=1, le=5, description="stages; each halves the grid")
    blocks: int = Field(1, ge=1, le=8, description="residual blocks a stage")
    view: Literal["fractional", "cartesian"] = Field("fractional", description="the cell's own grid, or a cube in Å")
    n: int = Field(16, ge=4, le=128, description="grid points an axis that the network sees")
    edge: float = Field(8.0, gt=0, le=50, description="edge of the Cartesian cube, Å")
    fields: tuple[FieldName, ...] = Field(("density", "gradient", "laplacian"), description="channels of the view")
    widths: tuple[Width, ...] = Field((0.5,), description="further Gaussian widths, Å, beyond the stored one")
    scaling: Literal["cbrt", "log", "none"] = Field("cbrt", description="keeps valence and core visible together")
    pooling: Literal["mean_max", "distribution", "attention"] = Field("distribution", description="over the grid")
    descriptors: bool = Field(True, description="the distribution of every field joins the pooled features")
    lattice_features: bool = Field(True, description="log volume and metric eigenvalues join them")
    dropout: float = Field(0.1, ge=0, lt=1, description="before and inside the heads")
    head_width: int = Field(32, ge=1, le=4096, description="hidden units of each target's head")

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        from taskgroup.models.backbone import backbone_names

        if name not in backbone_names():
            raise ValueError(f"no backbone '{name}'; {did_you_mean(name, backbone_names())}")
        return name

    @field_validator("fields")
    @classmethod
    def _distinct(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        if not fields or len(set(fields)) < len(fields):
            raise ValueError(f"fields must be given and distinct, found {list(fields)}")
        return fields
