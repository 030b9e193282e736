"""Checks of a search space read from YAML: every fault is named in one line."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.models import BACKBONES, ModelConfig, setting_names
from taskgroup.models.registry import backbones_with
from taskgroup.spec.dotted import BACKBONE, BACKBONE_NAME, dotted, possible_backbones, sibling
from taskgroup.spec.parameter import Parameter, as_list
from taskgroup.spec.space import SECTIONS, GroupingSettings, Space
from taskgroup.training import TrainConfig

ABOUT = "about"
"""Section of a search space that says what it is for; it changes nothing."""
ABOUT_FIELDS = ("use", "rows", "targets", "device", "network")
"""What a space is for, rows and targets of the data, where to train, and how long one network takes."""

_SETTINGS: dict[str, type[BaseModel]] = {
    "grouping": GroupingSettings,
    "model": ModelConfig,
    "training": TrainConfig,
}


def load_space(content: Mapping[str, Any], where: str = "space") -> Space:
    """Check a space read from YAML: keys are known, ranges the right way up, conditions name parameters.

    Raises ConfigError naming section, parameter and rule.
    """
    flat: dict[str, Mapping[str, Any]] = {}
    for section, values in content.items():
        if section == ABOUT:
            _check_about(values, f"{where}.{ABOUT}")
            continue
        if section not in SECTIONS:
            raise ConfigError(
                f"{where}.{section}: unknown section; {did_you_mean(section, SECTIONS)}"
            )
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{where}.{section}: a mapping of parameters is expected, found {values!r}"
            )
        flat[section] = dotted(values) if section == "model" else values
        _check_section(section, flat[section], f"{where}.{section}")
    try:
        space = Space.model_validate(flat)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_message(error)}") from None
    _check_values(space, where)
    return space


def _check_about(values: Any, where: str) -> None:
    """Refuse a recommendation that ``taskgroup spaces`` could not show."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: a mapping of texts is expected, found {values!r}")
    for name in values:
        if name not in ABOUT_FIELDS:
            raise ConfigError(f"{where}.{name}: unknown key; {did_you_mean(name, ABOUT_FIELDS)}")


def _check_section(section: str, values: Mapping[str, Any], where: str) -> None:
    """Refuse unknown names and parameters that contradict themselves."""
    for name, value in values.items():
        if not _is_known(section, name, values):
            prefix, _, last = name.rpartition(".")
            names = _names_like(section, prefix, values)
            raise ConfigError(f"{where}.{name}: unknown key; {did_you_mean(last, names)}")
        if isinstance(value, Mapping):
            _check_parameter(value, name, values, f"{where}.{name}")


def _is_known(section: str, name: str, values: Mapping[str, Any]) -> bool:
    """Return whether a section may have a parameter of this name."""
    if section != "model":
        return name in _SETTINGS[section].model_fields
    if name == BACKBONE_NAME or name in ModelConfig.model_fields:
        return True
    if name.startswith(f"{BACKBONE}."):
        return name.removeprefix(f"{BACKBONE}.") in _nested_names(values)
    return bool(backbones_with(name))


def _names_like(section: str, prefix: str, values: Mapping[str, Any]) -> list[str]:
    """Return the names that a section may have, those below ``prefix`` if there is one."""
    if section != "model":
        return list(_SETTINGS[section].model_fields)
    return _nested_names(values) if prefix else setting_names()


def _nested_names(values: Mapping[str, Any]) -> list[str]:
    """Return the settings of all backbones that the section of the model may choose."""
    names: dict[str, None] = {}
    for backbone in possible_backbones(values):
        names |= dict.fromkeys(BACKBONES[backbone].Settings.model_fields)
    return list(names)


def _check_parameter(
    value: Mapping[str, Any], name: str, siblings: Mapping[str, Any], where: str
) -> None:
    for key in value:
        if key not in Parameter.model_fields:
            raise ConfigError(
                f"{where}.{key}: unknown key; {did_you_mean(key, Parameter.model_fields)}"
            )
    for key in value.get("when") or {}:
        if sibling(key, name, siblings) not in siblings:
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
            settings.model_validate({field: value} | _company(settings, field, values))
        except ValidationError as error:
            location = error.errors()[0]["loc"]
            if field in location or not location:
                return _message(error)
    return None


def _company(settings: type[BaseModel], field: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the backbone that a setting of the model is checked with: some go with certain backbones only."""
    if settings is not ModelConfig or field == BACKBONE:
        return {}
    possible = list(possible_backbones(values))
    return {BACKBONE: possible[0]} if possible else {}


def _owners(
    section: str, name: str, values: Mapping[str, Any]
) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the settings that a name of a section belongs to, and its name there."""
    if section != "model" or name in ModelConfig.model_fields:
        yield _SETTINGS[section], name
        return
    if name == BACKBONE_NAME:
        yield ModelConfig, BACKBONE
        return
    field = name.removeprefix(f"{BACKBONE}.")
    possible = possible_backbones(values)
    owners = [other for other in possible if field in BACKBONES[other].Settings.model_fields]
    # a flat setting that no possible backbone has is ignored later, but should make sense
    for backbone in owners or backbones_with(field):
        yield BACKBONES[backbone].Settings, field


def _message(error: ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")
