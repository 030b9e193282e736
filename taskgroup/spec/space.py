"""Search spaces: what a trial may choose, read from ``search_spaces/*.yaml``.

A space has three sections, ``grouping`` (how the target graph is made and clustered), ``model`` (fields of ModelConfig)
and ``training`` (fields of TrainConfig). A parameter is a value (fixed), ``{choices: [...]}`` or
``{low:, high:, step:, log:}``; ``default:`` is what baselines use (else the first choice, or the middle);
``when: {method: [spectral]}`` makes it conditional on another parameter of its section.

Settings of a backbone stand below its name, and each may be searched:

    model:
      backbone: {name: {choices: [peaks, msa3dcnn]}, stages: {choices: [1, 2]}}

They are parameters with dotted names, here ``backbone.name`` and ``backbone.stages``. One that the chosen backbone does
not have is not asked for. In their ``when:`` they name each other without the dot.

Values are best kept discrete: a group that comes again with equal hyper-parameters costs nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import optuna
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from taskgroup.affinity import find_measure
from taskgroup.affinity.gradients import JOINT_AFFINITIES
from taskgroup.errors import ConfigError, GroupingError, did_you_mean
from taskgroup.grouping.cluster import find_clusterer
from taskgroup.grouping.graph import SPARSIFIERS
from taskgroup.models import BACKBONES, ModelConfig, setting_names
from taskgroup.spec.parameter import Parameter, Value, as_list, encode
from taskgroup.training import TrainConfig

MEASURED_IN_TRAINING = tuple(JOINT_AFFINITIES)
"""Names of the affinities that one joint run of all targets gives."""
SECTIONS = ("grouping", "model", "training")
_BACKBONE = "backbone"
_BACKBONE_NAME = "backbone.name"


class GroupingSettings(BaseModel):
    """How a trial makes its grouping."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    affinity: str = Field(
        "spearman",
        description="between targets: a measure of their labels (taskgroup.affinity), or measured in one joint run: "
        "gradient (cosines), look_ahead (what a step on one does to another), projected (estimated pairwise gains)",
    )
    sparsifier: str = Field(
        "threshold", description="which edges stay, see taskgroup.grouping.target_graph"
    )
    threshold: float = Field(
        0.2, ge=0, le=1, description="least |weight| of the threshold sparsifier"
    )
    neighbours: int = Field(
        3, ge=1, description="strongest edges a target keeps, of the knn sparsifier"
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="false discovery rate of the fdr sparsifier")
    method: str = Field("louvain", description="clusterer, see taskgroup.grouping.cluster")
    resolution: float = Field(1.0, gt=0, description="of louvain and greedy modularity")
    k: int | None = Field(None, ge=1, description="number of groups where the method takes one")
    seed: int = Field(0, ge=0, description="seed of the clusterer")

    @field_validator("affinity")
    @classmethod
    def _known_affinity(cls, name: str) -> str:
        if name not in MEASURED_IN_TRAINING:
            _check_name(find_measure, name, MEASURED_IN_TRAINING)
        return name

    @field_validator("sparsifier")
    @classmethod
    def _known_sparsifier(cls, name: str) -> str:
        if name not in SPARSIFIERS:
            raise ValueError(f"no sparsifier '{name}'; {did_you_mean(name, SPARSIFIERS)}")
        return name

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        _check_name(find_clusterer, name)
        return name


def _check_name(find: Callable[[str], Any], name: str, others: Iterable[str] = ()) -> None:
    """Look a name up; raise ValueError, which pydantic reports, and say which names are known here besides."""
    try:
        find(name)
    except GroupingError as error:
        also = f" (here also: {', '.join(others)})" if others else ""
        raise ValueError(f"{error}{also}") from None


class Space(BaseModel):
    """The three sections of a search space; each maps a parameter to a fixed value or a Parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    grouping: dict[str, Parameter | Value] = Field(default_factory=dict)
    model: dict[str, Parameter | Value] = Field(default_factory=dict)
    training: dict[str, Parameter | Value] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_dotted_names(cls, content: Any) -> Any:
        """Bring nested settings of the backbone to dotted names."""
        if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
            return content
        return dict(content) | {"model": _dotted(content["model"])}

    def parameters(self) -> dict[str, Parameter]:
        """Return ``section.name`` -> Parameter, without the fixed values."""
        found = {}
        for section in SECTIONS:
            for name, parameter in getattr(self, section).items():
                if isinstance(parameter, Parameter):
                    found[f"{section}.{name}"] = parameter
        return found

    def baseline(self) -> dict[str, dict[str, Any]]:
        """Return the settings that baselines use, by section."""
        return self._walk(lambda parameter, name: parameter.baseline())

    def suggest(self, trial: optuna.Trial) -> dict[str, dict[str, Any]]:
        """Return the settings of a trial, by section."""
        return self._walk(lambda parameter, name: parameter.suggest(trial, name))

    def encode(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return settings as Optuna parameters, for ``enqueue_trial``."""
        parameters = self.parameters()
        encoded = {}
        for section, values in settings.items():
            for name, value in values.items():
                if f"{section}.{name}" in parameters:
                    encoded[f"{section}.{name}"] = encode(value)
        return encoded

    def _walk(self, choose: Callable[[Parameter, str], Any]) -> dict[str, dict[str, Any]]:
        """Return all settings, each parameter chosen by a function of itself and its full name."""
        settings = {}
        for section in SECTIONS:
            chosen: dict[str, Any] = {}
            for name, parameter in _in_order(getattr(self, section)):
                if not _backbone_has(name, chosen):
                    continue
                if not isinstance(parameter, Parameter):
                    chosen[name] = parameter
                elif _is_asked_for(parameter, name, chosen):
                    chosen[name] = choose(parameter, f"{section}.{name}")
            settings[section] = chosen
        return settings

    def with_methods(self, methods: tuple[str, ...]) -> "Space":
        """Return this space with further clustering methods to choose from (those the baselines need)."""
        method = self.grouping.get("method", "louvain")
        choices = list(method.choices) if isinstance(method, Parameter) else [method]
        default = method.baseline() if isinstance(method, Parameter) else method
        choices += [name for name in methods if name not in choices]
        parameter = Parameter(choices=tuple(choices), default=default)
        return self.model_copy(update={"grouping": {**self.grouping, "method": parameter}})


def settings_of(
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[GroupingSettings, ModelConfig, TrainConfig]:
    """Return the three settings objects of a trial, checked."""
    return (
        GroupingSettings(**settings["grouping"]),
        ModelConfig.model_validate(_nested(settings["model"])),
        TrainConfig(**settings["training"]),
    )


def load_space(content: Mapping[str, Any], where: str = "space") -> Space:
    """Check a space read from YAML: keys are known, ranges the right way up, conditions name parameters.

    Raises ConfigError naming section, parameter and rule.
    """
    flat: dict[str, Mapping[str, Any]] = {}
    for section, values in content.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"{where}.{section}: unknown section; {did_you_mean(section, SECTIONS)}"
            )
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{where}.{section}: a mapping of parameters is expected, found {values!r}"
            )
        flat[section] = _dotted(values) if section == "model" else values
        _check_section(section, flat[section], f"{where}.{section}")
    space = Space.model_validate(flat)
    _check_values(space, where)
    return space


def _check_section(section: str, values: Mapping[str, Any], where: str) -> None:
    """Refuse unknown names and parameters that contradict themselves."""
    known = _known_names(section, values)
    for name, value in values.items():
        if name not in known:
            # of a nested name only the last part is compared, with its own kind
            prefix, _, last = name.rpartition(".")
            alike = [other.rpartition(".")[2] for other in known if other.startswith(prefix)]
            raise ConfigError(f"{where}.{name}: unknown key; {did_you_mean(last, alike)}")
        if isinstance(value, Mapping):
            _check_parameter(value, name, values, f"{where}.{name}")


def _known_names(section: str, values: Mapping[str, Any]) -> list[str]:
    """Return the names that a section may have; of nested settings those of the backbones it may choose."""
    if section == "grouping":
        return list(GroupingSettings.model_fields)
    if section == "training":
        return list(TrainConfig.model_fields)
    known = dict.fromkeys(setting_names())
    for backbone in _possible_backbones(values):
        fields = BACKBONES[backbone].Settings.model_fields
        known |= dict.fromkeys(f"{_BACKBONE}.{field}" for field in fields)
    return list(known)


def _check_parameter(
    value: Mapping[str, Any], name: str, siblings: Mapping[str, Any], where: str
) -> None:
    for key in value:
        if key not in Parameter.model_fields:
            raise ConfigError(
                f"{where}.{key}: unknown key; {did_you_mean(key, Parameter.model_fields)}"
            )
    for key in value.get("when") or {}:
        if _sibling(key, name, siblings) not in siblings:
            raise ConfigError(
                f"{where}.when: no parameter '{key}' in this section; {did_you_mean(key, siblings)}"
            )
    try:
        Parameter.model_validate(dict(value))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_message(error)}") from None


def _check_values(space: Space, where: str) -> None:
    """Refuse fixed values, choices and ends of ranges that the settings do not accept."""
    for section in SECTIONS:
        values = getattr(space, section)
        for name, parameter in values.items():
            is_parameter = isinstance(parameter, Parameter)
            for value in parameter.values if is_parameter else (parameter,):
                fault = _fault(section, name, as_list(value), values)
                if fault:
                    raise ConfigError(f"{where}.{section}.{name}: {fault}, found {value!r}")


def _fault(section: str, name: str, value: Any, values: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a value of a setting by itself; faults of other settings are not its own."""
    for settings, field in _owners(section, name, values):
        try:
            settings.model_validate({field: value})
        except ValidationError as error:
            location = error.errors()[0]["loc"]
            if field in location or not location:
                return _message(error)
    return None


def _owners(
    section: str, name: str, values: Mapping[str, Any]
) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the settings that a name of a section belongs to, and its name there."""
    if section == "grouping":
        yield GroupingSettings, name
    elif section == "training":
        yield TrainConfig, name
    elif name in ModelConfig.model_fields or name == _BACKBONE_NAME:
        yield ModelConfig, _BACKBONE if name == _BACKBONE_NAME else name
    else:
        field = name.removeprefix(f"{_BACKBONE}.")
        for backbone in _possible_backbones(values):
            settings = BACKBONES[backbone].Settings
            if field in settings.model_fields:
                yield settings, field


def _message(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _dotted(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section in which nested settings of the backbone have dotted names."""
    backbone = section.get(_BACKBONE)
    is_nested = isinstance(backbone, Mapping) and not set(backbone) & set(Parameter.model_fields)
    if not is_nested:
        return dict(section)
    flat = {}
    for name, value in section.items():
        if name == _BACKBONE:
            flat |= {f"{_BACKBONE}.{setting}": inner for setting, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Undo ``_dotted`` for chosen values."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith(f"{_BACKBONE}."):
            own = nested.setdefault(_BACKBONE, {})
            own[name.removeprefix(f"{_BACKBONE}.")] = value
        else:
            nested[name] = value
    return nested


def _possible_backbones(model: Mapping[str, Any]) -> list[str]:
    """Return the registered backbones that a section with dotted names may choose."""
    default = ModelConfig().backbone.name
    chosen = model.get(_BACKBONE_NAME, model.get(_BACKBONE, default))
    if isinstance(chosen, Parameter):
        names = chosen.values
    elif isinstance(chosen, Mapping):
        names = chosen.get("choices") or ()
    else:
        names = (chosen,)
    return [name for name in names if isinstance(name, str) and name in BACKBONES]


def _backbone_has(name: str, chosen: Mapping[str, Any]) -> bool:
    """Return False for a dotted setting that the chosen backbone does not have."""
    if not name.startswith(f"{_BACKBONE}.") or name == _BACKBONE_NAME:
        return True
    backbone = chosen.get(_BACKBONE_NAME, ModelConfig().backbone.name)
    return name.removeprefix(f"{_BACKBONE}.") in BACKBONES[backbone].Settings.model_fields


def _in_order(section: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return parameters with those that others depend on first."""

    def rank(item: tuple[str, Any]) -> tuple[bool, bool]:
        name, parameter = item
        is_conditional = isinstance(parameter, Parameter) and bool(parameter.when)
        return is_conditional, name.startswith(f"{_BACKBONE}.") and name != _BACKBONE_NAME

    return sorted(section.items(), key=rank)


def _is_asked_for(parameter: Parameter, name: str, chosen: Mapping[str, Any]) -> bool:
    """Return whether the conditions of a parameter hold."""
    for key, wanted in parameter.when.items():
        value = chosen.get(_sibling(key, name, chosen))
        matches = value in wanted if isinstance(wanted, list | tuple) else value == wanted
        if not matches:
            return False
    return True


def _sibling(key: str, name: str, names: Iterable[str]) -> str:
    """Return the full name that ``key`` has in a condition of the parameter ``name``: a nested one if there is one."""
    prefix = name.rpartition(".")[0]
    nested = f"{prefix}.{key}"
    return nested if prefix and nested in names else key


__all__ = ["GroupingSettings", "Parameter", "Space", "load_space", "settings_of"]
