"""Targets that the user asked for: by name, or described in a mapping or a YAML file."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from taskgroup.datasets.target import Target
from taskgroup.errors import TargetError, did_you_mean

TargetsAsked = Mapping[str, Mapping[str, str]] | Iterable[str] | str | Path | None

# A description of a thousand targets takes 100 kB; YAML can nest and repeat itself without end.
_LARGEST_FILE = 1 << 20
_FIELDS = tuple(field.name for field in fields(Target) if field.name != "name")


def read_asked(targets: TargetsAsked) -> dict[str, dict[str, str]] | None:
    """Return the fields that were stated of each target, by name; None where nothing was. Raises TargetError."""
    if targets is None:
        return None
    place = "targets"
    if isinstance(targets, str | Path):
        place = str(targets)
        targets = _read_yaml(Path(targets))
    if not isinstance(targets, Mapping):
        targets = {name: {} for name in _names(targets, place)}
    asked = {}
    for name, stated in targets.items():
        asked[str(name)] = _check_fields(name, stated, place)
    return asked


def _names(targets: Any, place: str) -> list[Any]:
    if targets is None:
        return []
    if not isinstance(targets, Iterable) or isinstance(targets, str):
        raise TargetError(f"{place}: must be a mapping or a list of targets, found {targets!r:.60}")
    return list(targets)


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise TargetError(f"{path}: must be a file of at most {_LARGEST_FILE} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TargetError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TargetError(f"{path}: not YAML ({error})") from None
    # aliases would let a few lines unpack to gigabytes
    if any(_is_alias(token) for token in _tokens(text, path)):
        raise TargetError(f"{path}: not YAML for targets (aliases are not taken)")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TargetError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from error


def _tokens(text: str, path: Path) -> Iterable[Any]:
    import yaml

    try:
        yield from yaml.scan(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise TargetError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from error


def _is_alias(token: Any) -> bool:
    import yaml

    return isinstance(token, yaml.AliasToken)


def _check_fields(name: Any, stated: Any, place: str) -> dict[str, str]:
    if stated is None:
        return {}
    if not isinstance(stated, Mapping):
        raise TargetError(
            f"{place}: target '{name}' must be a mapping of {', '.join(_FIELDS)}, "
            f"got {stated!r:.60}"
        )
    for field, value in stated.items():
        if field not in _FIELDS:
            raise TargetError(
                f"{place}: target '{name}' has an unknown field '{field}'; "
                f"{did_you_mean(field, _FIELDS)}"
            )
        if not isinstance(value, str):
            raise TargetError(f"{place}: target '{name}', {field}: must be text, got {value!r:.60}")
    return dict(stated)
