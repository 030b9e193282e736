"""Settings of a network, all of which a study may search over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from taskgroup.errors import InputError, did_you_mean
from taskgroup.models.backbones.base import BackboneSettings
from taskgroup.models.registry import BACKBONES, backbones_with

FieldName = Literal["density", "gradient", "laplacian", "reduced_gradient"]
Width = Annotated[float, Field(gt=0, le=5)]

DEFAULT_BACKBONE = "msa3dcnn"


class ModelConfig(BaseModel):
    """View, backbone and heads of one network; part of a GroupResult's key, so every field changes what is trained.

    >>> config = ModelConfig(backbone={"name": "msa3dcnn", "width": 8})
    >>> config.backbone.name, config.backbone.width, config.backbone.stages
    ('msa3dcnn', 8, 2)

    Settings that only a backbone has may also be given flat. Those that the chosen backbone does not have, but another
    registered one has, are ignored then: a search space over several backbones shares ``width``.

    >>> config == ModelConfig(backbone="msa3dcnn", width=8)
    True
    >>> ModelConfig(backbone="descriptors", stages=3).backbone.width
    16
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    view: Literal["fractional", "cartesian"] = Field(
        "fractional",
        description="the cell's own grid, continued periodically, or a cube of fixed edge cut out of it",
    )
    grid: int = Field(
        16,
        ge=4,
        le=256,
        description="points per axis that the network sees",
    )
    edge: float = Field(8.0, gt=0, le=50, description="edge of the Cartesian view's cube, Å")
    fields: tuple[FieldName, ...] = Field(
        ("density", "gradient", "laplacian", "reduced_gradient"),
        min_length=1,
        description="what is made of the density, one channel each",
    )
    magnetisation: bool = Field(
        True,
        description="the magnetisation is seen too, where densities have one; false: the total density alone",
    )
    widths: tuple[Width, ...] = Field(
        (0.4, 0.8),
        description="widths (Å) of further Gaussian low-passes, each adding all fields to those of the stored density",
    )
    atoms: Literal["density", "structure", "structure_alone"] = Field(
        "density",
        description="where the atoms come from: found in the density alone, or given with it by the file (`structure`; "
        "backbone `peaks`); `structure_alone`: the same network without the density, a yardstick",
    )
    lowpass: float = Field(
        0.0,
        ge=0,
        le=5,
        description="Gaussian low-pass (Å) of the density in all, that of the stored rows included; 0: as stored",
    )
    scaling: Literal["cbrt", "log", "none"] = Field(
        "cbrt",
        description="of field values, sign kept, so that valence and core are visible together",
    )
    descriptors: bool = Field(
        True,
        description="the distribution of every field joins what the backbone pooled",
    )
    lattice_features: bool = Field(
        False,
        description="volume and shape of the cell join them too: predictions then depend on which cell describes the "
        "crystal; for comparisons only",
    )
    backbone: SerializeAsAny[BackboneSettings] = Field(
        default_factory=lambda: _backbone_settings({"name": DEFAULT_BACKBONE}),
        description="name of the backbone (msa3dcnn, radial3d, resnet3d, convnext3d, descriptors, peaks, a plug-in), "
        "or a mapping of name and its own settings",
    )
    features: int = Field(
        64, ge=1, le=4096, description="shared features that the heads see, beside the cell's"
    )
    head_width: int = Field(32, ge=1, le=4096, description="hidden units of each target's head")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the shared features")

    @model_validator(mode="before")
    @classmethod
    def _move_flat_settings(cls, content: Any) -> Any:
        """Move flat settings of the backbone to where they belong."""
        if not isinstance(content, Mapping):
            return content
        flat = {name: value for name, value in content.items() if name not in cls.model_fields}
        if not flat:
            return content
        common = {name: value for name, value in content.items() if name in cls.model_fields}
        backbone = _as_mapping(common.get("backbone", DEFAULT_BACKBONE))
        own_fields = _find(backbone.get("name", DEFAULT_BACKBONE)).Settings.model_fields
        for name, value in flat.items():
            if name in own_fields:
                backbone[name] = value
            elif not backbones_with(name):
                known = setting_names()
                raise ValueError(f"no setting '{name}'; {did_you_mean(name, known)}")
        return common | {"backbone": backbone}

    @field_validator("backbone", mode="before")
    @classmethod
    def _of_its_backbone(cls, content: Any) -> BackboneSettings:
        return _backbone_settings(_as_mapping(content))

    @field_validator("fields", "widths")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"values must be distinct, found {list(values)}")
        return values

    @model_validator(mode="after")
    def _divides(self) -> ModelConfig:
        multiple = self.backbone.grid_multiple
        if self.grid % multiple:
            raise ValueError(f"patch must divide grid, found patch={multiple}, grid={self.grid}")
        return self

    @model_validator(mode="after")
    def _takes_atoms(self) -> ModelConfig:
        name = self.backbone.name
        if self.atoms != "density" and not BACKBONES.find(name).takes_atoms:
            raise ValueError(
                f"atoms: {self.atoms} needs a backbone that takes atoms (peaks), found {name}"
            )
        return self

    def updated(self, changes: Mapping[str, Any]) -> ModelConfig:
        """Return these settings with some replaced, flat or nested; another backbone takes over what it has, too.

        Raises ValidationError: the settings do not go together.
        """
        content = self.model_dump()
        backbone = _as_mapping(changes.get("backbone", {}))
        name = backbone.get("name", self.backbone.name)
        shared = set(content["backbone"]) & set(_find(name).Settings.model_fields)
        kept = {key: content["backbone"][key] for key in shared}
        content |= dict(changes) | {"backbone": kept | {"name": name} | backbone}
        return ModelConfig.model_validate(content)


def setting_names() -> list[str]:
    """Return all names that ``ModelConfig`` takes: its fields, then those of the registered backbones."""
    names = dict.fromkeys(ModelConfig.model_fields)
    for kind in BACKBONES.values():
        names |= dict.fromkeys(kind.Settings.model_fields)
    # the name of a backbone is given as ``backbone``
    names.pop("name")
    return list(names)


def _as_mapping(content: Any) -> dict[str, Any]:
    """Return the settings of a backbone, given as name, mapping or object, as a mapping."""
    if isinstance(content, str):
        return {"name": content}
    if isinstance(content, BackboneSettings):
        return content.model_dump()
    if isinstance(content, Mapping):
        return dict(content)
    raise ValueError(f"must be a name or a mapping of name and settings, found {content!r}")


def _backbone_settings(content: dict[str, Any]) -> BackboneSettings:
    """Return the checked settings object of the backbone that the mapping names."""
    name = content.get("name") or DEFAULT_BACKBONE
    kind = _find(name)
    try:
        return kind.Settings.model_validate(content | {"name": name})
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(setting, kind.Settings.model_fields)
            raise ValueError(f"{name} has no setting '{setting}'; {hint}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{setting}: {message}, found {first['input']!r}") from None


def _find(name: Any) -> Any:
    """Return the class of a backbone; raise ValueError, which pydantic reports, where there is none."""
    if not isinstance(name, str):
        raise ValueError(f"name must be text, found {name!r}")
    try:
        return BACKBONES.find(name)
    except InputError as error:
        raise ValueError(str(error)) from None
