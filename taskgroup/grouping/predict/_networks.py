"""Networks as the skill model sees them: a set of targets, a recipe, and results with their seeds and folds."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskgroup.errors import GroupingError

Items = tuple[tuple[str, Any], ...]


class _FlatItems(tuple):
    """Hyper-parameters that were flattened and sorted."""


@dataclass(frozen=True)
class Network:
    """Targets trained together with one recipe.

    Args:
        tasks: names of the targets; kept sorted.
        recipe: hyper-parameter -> value (number, text, bool, None, or a list of these); nested mappings are flattened
            to dotted names. Networks of equal recipes may share what only this recipe does.

    >>> Network(("b", "a"), {"model": {"width": 8}}).recipe
    (('model.width', 8),)
    """

    tasks: tuple[str, ...]
    recipe: Items | Mapping[str, Any] = ()

    def __post_init__(self) -> None:
        tasks = tuple(sorted(self.tasks))
        if not tasks:
            raise GroupingError("tasks of a network must hold at least one name, found none")
        if len(set(tasks)) < len(tasks):
            raise GroupingError(f"tasks of a network must be named once, found {list(tasks)}")
        items = self.recipe
        # That of another network is flat already; a search makes hundreds of networks of one recipe.
        if not isinstance(items, _FlatItems):
            items = _FlatItems(sorted(_flattened(dict(items))))
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "recipe", items)


@dataclass(frozen=True)
class Observation:
    """Skills that one training of a network reached.

    Args:
        network: what was trained.
        scores: target -> skill (higher is better); targets of the network without a score are left out.
        seed: of the training. Trainings of one network that differ in it are repeats.
        fold: the validation fold that the scores are of.
    """

    network: Network
    scores: Mapping[str, float] = field(hash=False)
    seed: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        for task, value in self.scores.items():
            if task not in self.network.tasks:
                raise GroupingError(
                    f"scores must be of targets of the network {list(self.network.tasks)}, found '{task}'"
                )
            if not math.isfinite(value):
                raise GroupingError(f"the score of '{task}' must be a finite number, found {value}")


def all_tasks(networks: Iterable[Network]) -> tuple[str, ...]:
    """Return the names of all targets of the networks, sorted."""
    return tuple(sorted({task for network in networks for task in network.tasks}))


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _hashable(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_hashable(entry) for entry in value)
    return value
