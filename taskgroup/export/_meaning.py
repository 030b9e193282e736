"""Versions of what decides a network's numbers."""

from typing import Any

from taskgroup.models import ModelConfig


def meaning(config: ModelConfig) -> dict[str, Any]:
    """Return name and version of the backbone and the view of a configuration."""
    return {"backbone": {"name": config.backbone}, "view": {"name": config.view}}
