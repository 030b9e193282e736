"""Weights that earlier versions wrote, brought to the names of today."""

from collections.abc import Mapping

from torch import Tensor

# In version 0.2.0 and before, the trunk was called backbone, and the backbone in it net.
_RENAMED = (("backbone.net.", "trunk.backbone."), ("backbone.", "trunk."))


def migrate_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of MultiTaskNetwork with today's names; one of today stays as it is."""
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
