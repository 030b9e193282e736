"""Study files (``studies/*.yaml``): found, read, overridden and checked.

Each section of a study file is one model of ``taskgroup.spec.sections``; unknown keys are refused with the nearest
known one. ``load_study`` reads a file, applies ``--set a.b=c`` overrides and resolves the search space.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.spec.safe_yaml import parse_yaml
from taskgroup.spec.sections import (
    AssemblyConfig,
    SearchConfig,
    SplitConfig,
    StudyConfig,
    parse_duration,
)
from taskgroup.spec.space import Space
from taskgroup.spec.space_check import load_space

__all__ = [
    "AssemblyConfig",
    "SearchConfig",
    "SplitConfig",
    "StudyConfig",
    "find_config",
    "load_study",
    "parse_duration",
    "read_yaml",
]

# Characters of a wrong value that a message quotes.
_LONGEST_QUOTE = 200


def config_folders(kind: str) -> list[Path]:
    """Return the folders a bare name is looked up in: those of the working directory, then those of taskgroup."""
    package = Path(__file__).resolve().parent.parent
    # An installed package brings its files along as _configs; in the repository they lie beside the package.
    return [Path.cwd() / kind, package / "_configs" / kind, package.parent / kind]


def find_config(name: str | Path, kind: str, near: Path | None = None) -> Path:
    """Return the file of a study or search space given by path or bare name.

    Parameters
    ----------
    name: a path, or a name with or without ``.yaml``.
    kind: ``studies`` or ``search_spaces``.
    near: a folder that is looked into first.

    Raises ConfigError: there is no such file; the message names the nearest one.
    """
    path = Path(name)
    folders = config_folders(kind)
    if near is not None:
        folders.insert(0, near)
    candidates = [path]
    candidates += [folder / path.name for folder in folders]
    candidates += [folder / f"{path.name}.yaml" for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    existing_names = {file.stem for folder in folders for file in folder.glob("*.yaml")}
    raise ConfigError(f"{kind}: no file '{name}'; {did_you_mean(path.stem, existing_names)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises ConfigError naming file and line: it is not YAML, or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        found = type(content).__name__
        raise ConfigError(f"{path}: a mapping of keys to values is expected, found {found}")
    return content


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set ``a.b=c`` in a nested mapping, in place; values are read as YAML.

    Raises ConfigError: an override is not ``key=value``, its key goes through a plain value, or its value is not YAML.
    """
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override}: must be key=value, like search.n_trials=50")
        value = parse_yaml(text, f"--set {key}")
        *sections, last_name = key.strip().split(".")
        section = content
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {override}: '{name}' is not a section")
        section[last_name] = value


def load_study(source: str | Path | dict[str, Any], overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study file (or a mapping), with overrides like ``search.n_trials=50``.

    Raises ConfigError: one line naming file, key, rule and what was found.
    """
    if isinstance(source, dict):
        content = copy.deepcopy(source)
        name = "study"
        spaces_folder = None
    else:
        path = find_config(source, "studies")
        content = read_yaml(path)
        name = str(path)
        spaces_folder = path.parent.parent / "search_spaces"
    # "space=FILE" names another file: it must be read before single keys of the space are overridden.
    for_the_file = [override for override in overrides if _key_of(override) == "space"]
    for_its_keys = [override for override in overrides if _key_of(override) != "space"]
    apply_overrides(content, for_the_file)
    if isinstance(content.get("space"), str):
        content["space"] = read_yaml(find_config(content["space"], "search_spaces", spaces_folder))
    apply_overrides(content, for_its_keys)
    if isinstance(content.get("space"), dict):
        content["space"] = load_space(content["space"], f"{name}: space")
    try:
        config = StudyConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain(error, StudyConfig)}") from None
    config.search.sampler.check(config.space)
    return config


def named_space(name: str) -> Space:
    """Return the search space in a file, by path or bare name. Raises ConfigError: there is none, or it has a fault."""
    path = find_config(name, "search_spaces")
    return load_space(read_yaml(path), str(path))


def _key_of(override: str) -> str:
    return override.partition("=")[0].strip()


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first fault of a validation in one line; an unknown key comes with the nearest known one."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"]]
    place = ".".join(location) or "file"
    if fault["type"] == "extra_forbidden":
        section = _section_at(location[:-1], model)
        return f"{place}: unknown key; {did_you_mean(location[-1], section.model_fields)}"
    if fault["type"] == "missing":
        return f"{place}: is required"
    message = fault["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if "found" not in message:
        message += f", found {_quoted(fault['input'])}"
    return f"{place}: {message}"


def _quoted(value: Any) -> str:
    """Return a value as Python writes it, without the end of a long one."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no integer of more than 4,300 digits.
        return f"a number of about {value.bit_length() * 3 // 10:,} digits"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]} ..."


def _section_at(location: Sequence[str], model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the section at a place in a study file."""
    for name in location:
        field = model.model_fields.get(name)
        if field is None or not isinstance(field.annotation, type):
            break
        model = field.annotation
    return model
