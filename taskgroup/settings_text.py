"""Hyper-parameters in words: nested settings made flat, and only what tells them apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names.

    >>> flat({"model": {"width": 8}, "lr": 0.1})
    {'model.width': 8, 'lr': 0.1}
    """
    return dict(_flat_items(settings, prefix))


def differing_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names whose values are not the same in all rows that have any settings, in order of appearance.

    >>> differing_names([{"lr": 0.1, "width": 8}, {"lr": 0.2, "width": 8}, {}])
    ['lr']
    """
    filled = [row for row in rows if row]
    names = dict.fromkeys(name for row in filled for name in row)
    return [name for name in names if len({_key(row.get(name)) for row in filled}) > 1]


def in_words(settings: Mapping[str, Any], names: Sequence[str] | None = None) -> str:
    """Return settings as text, those of ``names`` only, each by the last part of its name.

    >>> in_words({"hp/model.backbone": "peaks", "hp/training.lr": 0.003})
    'backbone peaks, lr 0.003'
    """
    if names is None:
        names = list(settings)
    parts = []
    for name in names:
        value = settings.get(name)
        if value is not None:
            short = name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
            parts.append(f"{short} {_value(value)}")
    return ", ".join(parts)


def _flat_items(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat_items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return "(" + " ".join(map(_value, value)) + ")"
    return str(value)


def _key(value: Any) -> str:
    """Return a value as something hashable: settings may be lists."""
    return repr(value)
