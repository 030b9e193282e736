"""Everything that can be extended, by kind, and where each part comes from."""

from importlib import import_module
from typing import NamedTuple

from taskgroup import __version__
from taskgroup.registry import Registry


class _Place(NamedTuple):
    module: str
    attribute: str


_REGISTRIES = (
    _Place("taskgroup.densities.read", "READERS"),
    _Place("taskgroup.affinity.labels", "MEASURES"),
    _Place("taskgroup.grouping.cluster", "CLUSTERERS"),
    _Place("taskgroup.models.registry", "BACKBONES"),
    _Place("taskgroup.training.balance", "BALANCERS"),
    _Place("taskgroup.execution", "EXECUTORS"),
)


def registries() -> tuple[Registry, ...]:
    """Return the registries of all extension points."""
    return tuple(getattr(import_module(place.module), place.attribute) for place in _REGISTRIES)


def registered() -> list[dict[str, str]]:
    """Return rows ``{kind, name, distribution, version}``, the built-in ones of a kind first."""
    rows = []
    for registry in registries():
        for name in registry:
            source = registry.source(name)
            row = {"kind": registry.kind, "name": name}
            # Of what is built in, the version is ours.
            version = source.version or __version__
            row |= {"distribution": source.distribution, "version": version}
            rows.append(row)
    return rows
