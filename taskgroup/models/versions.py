"""The meaning of a configuration: versions of all code that turns a density into features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskgroup.models.registry import BACKBONES

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

# Version of what all networks share: trunk, heads, the distribution's branch, lattice features. Raised whenever equal
# settings and weights would give other numbers.
NETWORK_VERSION = 1


def meaning(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Return names and versions that change whenever equal settings would give other numbers, as plain JSON.

    They are those of network, view and backbone, and of a plug-in also its distribution. Part of the key of every
    trained network, and of every bundle.

    >>> from taskgroup.models import ModelConfig
    >>> versions = meaning(ModelConfig(backbone="peaks"))
    >>> versions["view"], versions["backbone"]
    ({'name': 'PeakView', 'version': 3}, {'name': 'peaks', 'version': 1})
    """
    name = config.backbone.name
    backbone = BACKBONES.find(name)
    view = backbone.view_class(config)
    versions = {
        "network": {"version": NETWORK_VERSION},
        "view": {"name": view.__name__, "version": view.version},
        "backbone": {"name": name, "version": backbone.version},
    }
    if name not in BACKBONES.builtin_names:
        source = BACKBONES.source(name)
        versions["plug-in"] = {"name": source.distribution, "version": source.version}
    return versions
