"""One way to look a class or function up by name: those of taskgroup first, then those of installed plug-ins.

A plug-in is any installed package that names an object under one of our entry point groups in its pyproject.toml:

    [project.entry-points."taskgroup.backbones"]
    mine = "my_package.network:MyBackbone"

``examples/plugin`` in the repository is a complete one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from taskgroup.errors import InputError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a registered object comes from: ``taskgroup``, or the distribution of a plug-in with its version."""

    distribution: str
    version: str


class Registry(Mapping[str, T]):
    """A mapping from names to objects of one kind, built in or found as entry points.

    The names of plug-ins are read at first use and their modules are imported only when asked for. A built-in name
    cannot be replaced by a plug-in.

    Parameters
    ----------
    kind: what is registered, for messages ("backbone").
    group: the entry point group ("taskgroup.backbones").
    builtin: the objects that taskgroup brings.
    error: the class of the error that an unknown name raises.
    """

    def __init__(
        self, kind: str, group: str, builtin: Mapping[str, T], error: type[InputError]
    ) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._error = error

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        points = sorted(entry_points(group=self.group), key=lambda point: point.name)
        return {point.name: point for point in points if point.name not in self._builtin}

    def __getitem__(self, name: str) -> T:
        if name in self._builtin:
            return self._builtin[name]
        return self._plugins[name].load()

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from self._plugins

    def __len__(self) -> int:
        return len(self._builtin) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._plugins

    @property
    def builtin_names(self) -> tuple[str, ...]:
        """Names of the objects that taskgroup brings."""
        return tuple(self._builtin)

    def find(self, name: str) -> T:
        """Return the object of that name. Raises the registry's error, naming the nearest known name."""
        if name not in self:
            raise self._error(f"unknown {self.kind} '{name}'; {did_you_mean(name, self)}")
        return self[name]

    def source(self, name: str) -> Source:
        """Return where the object of that name comes from: a change of version may change what it computes."""
        if name in self._builtin or self._plugins[name].dist is None:
            return Source("taskgroup", "")
        distribution = self._plugins[name].dist
        return Source(distribution.name, distribution.version)
