"""Hyper-parameters in words: nested settings made flat, and only what tells them apart."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names.

    >>> flat({"model": {"width": 8}, "lr": 0.1})
    {'model.width': 8, 'lr': 0.1}
    """
    return dict(_flat_items(settings, prefix))


def recipe_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe with dotted names; ``model.backbone`` is the name of the backbone.

    >>> recipe_settings({"model": {"backbone": {"name": "mine", "heads": 4}}, "training": {"lr": 0.1}})
    {'model.backbone': 'mine', 'model.backbone.heads': 4, 'training.lr': 0.1}
    """
    settings = {}
    for name, value in flat(recipe).items():
        # A backbone with settings of its own has its name among them.
        settings[name.replace("model.backbone.name", "model.backbone")] = value
    return settings


def differing_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names whose values are not the same in all rows that have them, in order of appearance.

    >>> differing_names([{"lr": 0.1, "width": 8}, {"lr": 0.2, "width": 8}, {"lr": 0.1}])
    ['lr']
    """
    values_by_name: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            # As text, since settings may be lists, which no set can hold.
            values_by_name.setdefault(name, set()).add(repr(value))
    return [name for name, values in values_by_name.items() if len(values) > 1]


def common_and_own(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the settings that all rows share, and what each row has besides.

    >>> common_and_own([{"lr": 0.1, "width": 8}, {"lr": 0.1, "width": 4, "heads": 2}])
    ({'lr': 0.1}, [{'width': 8}, {'width': 4, 'heads': 2}])
    """
    differing = set(differing_names(rows))
    common = {}
    for name, value in rows[0].items():
        if name not in differing and all(name in row for row in rows):
            common[name] = value
    own = []
    for row in rows:
        own.append({name: value for name, value in row.items() if name not in common})
    return common, own


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
