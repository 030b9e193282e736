"""The meaning of a configuration: versions of all code that turns a density into features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskgroup.models.registry import BACKBONES

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

# Version of what all networks share: trunk, heads, the distribution's branch, lattice features. Raised whenever equal
# settings and weights would give other numbers.
NETWORK_VERSION = 1


def meaning(config: ModelConfig) -> dict[str, Any]:
    """Return plain JSON that changes whenever equal settings would give other numbers.

    It holds the versions of network, view and backbone, and of a plug-in its distribution with its version. Part of the
    key of every trained network and of every stored one.

    >>> from taskgroup.models import ModelConfig
    >>> meaning(ModelConfig(backbone="peaks"))
    {'network': 1, 'view': 'PeakView 1', 'backbone': 'peaks 1'}
    """
    name = config.backbone.name
    backbone = BACKBONES.find(name)
    view = backbone.view_class(config)
    content = {
        "network": NETWORK_VERSION,
        "view": f"{view.__name__} {view.version}",
        "backbone": f"{name} {backbone.version}",
    }
    source = BACKBONES.source(name)
    if name not in BACKBONES.builtin_names:
        content["plugin"] = f"{source.distribution} {source.version}"
    return content
