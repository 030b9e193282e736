"""Settings of a backbone in a search space: nested below its name in a file, dotted names in the space.

backbone: {name: peaks, width: 8}     becomes     backbone.name: peaks, backbone.width: 8
"""

from collections.abc import Iterable, Mapping
from typing import Any

from taskgroup.models import BACKBONES, ModelConfig
from taskgroup.spec.parameter import Parameter

BACKBONE = "backbone"
BACKBONE_NAME = "backbone.name"


def dotted(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section in which nested settings of the backbone have dotted names."""
    backbone = section.get(BACKBONE)
    is_nested = isinstance(backbone, Mapping) and not set(backbone) & set(Parameter.model_fields)
    if not is_nested:
        return dict(section)
    flat = {}
    for name, value in section.items():
        if name == BACKBONE:
            flat |= {f"{BACKBONE}.{setting}": inner for setting, inner in value.items()}
        else:
            flat[name] = value
    return flat


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return chosen values with the settings of the backbone nested again; undoes ``dotted``."""
    content: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith(f"{BACKBONE}."):
            own = content.setdefault(BACKBONE, {})
            own[name.removeprefix(f"{BACKBONE}.")] = value
        else:
            content[name] = value
    return content


def possible_backbones(model: Mapping[str, Any]) -> list[str]:
    """Return the registered backbones that a section with dotted names may choose."""
    default = ModelConfig().backbone.name
    chosen = model.get(BACKBONE_NAME, model.get(BACKBONE, default))
    if isinstance(chosen, Parameter):
        names = chosen.values
    elif isinstance(chosen, Mapping):
        names = chosen.get("choices") or ()
    else:
        names = (chosen,)
    return [name for name in names if isinstance(name, str) and name in BACKBONES]


def backbone_has(name: str, chosen: Mapping[str, Any]) -> bool:
    """Return False for a dotted setting that the chosen backbone does not have."""
    if not name.startswith(f"{BACKBONE}.") or name == BACKBONE_NAME:
        return True
    backbone = chosen.get(BACKBONE_NAME, ModelConfig().backbone.name)
    return name.removeprefix(f"{BACKBONE}.") in BACKBONES[backbone].Settings.model_fields


def sibling(key: str, name: str, names: Iterable[str]) -> str:
    """Return the full name that ``key`` has in a condition of the parameter ``name``: a nested one if there is one."""
    prefix = name.rpartition(".")[0]
    dotted_key = f"{prefix}.{key}"
    return dotted_key if prefix and dotted_key in names else key
