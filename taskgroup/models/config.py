"""What a network looks like: the settings a study may search over."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from taskgroup.errors import did_you_mean

FieldName = Literal["density", "gradient", "laplacian", "reduced_gradient"]
Width = Annotated[float, Field(gt=0, le=5)]
Dilation = Annotated[int, Field(ge=1, le=8)]


class ModelConfig(BaseModel):
    """View, backbone and heads of one network; part of a GroupResult's key, so every field changes what is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    view: Literal["fractional", "cartesian"] = Field(
        "fractional",
        description="the cell's own grid, continued periodically, or a cube of fixed edge cut out of it",
    )
    grid: int = Field(
        16,
        ge=4,
        le=256,
        description="most points an axis that the network sees; divides the stored grid",
    )
    edge: float = Field(8.0, gt=0, le=50, description="edge of the Cartesian view's cube, Å")
    fields: tuple[FieldName, ...] = Field(
        ("density", "gradient", "laplacian", "reduced_gradient"),
        min_length=1,
        description="what is made of the density, a channel each",
    )
    magnetisation: bool = Field(
        True,
        description="the magnetisation is seen too, where densities have one; false: the total density alone",
    )
    widths: tuple[Width, ...] = Field(
        (0.4, 0.8),
        description="widths (Å) of further Gaussian low-passes, each adding all fields; the stored one is there",
    )
    scaling: Literal["cbrt", "log", "none"] = Field(
        "cbrt",
        description="of field values, sign kept, so that valence and core are visible together",
    )
    descriptors: bool = Field(
        True,
        description="the distribution of every field on the stored grid joins what the backbone pooled",
    )
    lattice_features: bool = Field(True, description="volume and shape of the cell join them too")

    backbone: str = Field(
        "msa3dcnn",
        description="msa3dcnn, resnet3d, convnext3d, descriptors, peaks, or the name of a plug-in",
    )
    patch: int = Field(
        2,
        ge=1,
        le=16,
        description="edge of the blocks of points that the stem makes one of; divides grid",
    )
    width: int = Field(
        16, ge=2, le=512, description="channels of the first stage; each further stage doubles them"
    )
    stages: int = Field(
        2, ge=1, le=6, description="stages of the backbone; the grid is halved between them"
    )
    blocks: int = Field(1, ge=1, le=8, description="residual blocks a stage")
    dilations: tuple[Dilation, ...] = Field(
        (1, 2),
        min_length=1,
        description="of the parallel 3x3x3 kernels of an msa3dcnn block: reach 2 * dilation + 1",
    )
    symmetric: bool = Field(
        False,
        description="kernels alike along all axes and their signs, so that features are exactly invariant to both",
    )
    pooling: Literal["mean_max", "distribution", "attention"] = Field(
        "distribution",
        description="how the features of all grid points become features of the crystal",
    )
    features: int = Field(
        64, ge=1, le=4096, description="shared features that the heads see, beside the cell's"
    )
    head_width: int = Field(32, ge=1, le=4096, description="hidden units of each target's head")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the shared features")

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        from taskgroup.models.registry import backbone_names

        if name not in backbone_names():
            raise ValueError(f"no backbone '{name}'; {did_you_mean(name, backbone_names())}")
        return name

    @field_validator("fields", "widths", "dilations")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"values must be distinct, found {list(values)}")
        return values

    @model_validator(mode="after")
    def _divides(self) -> "ModelConfig":
        if self.grid % self.patch:
            raise ValueError(f"patch must divide grid, found patch={self.patch}, grid={self.grid}")
        return self
