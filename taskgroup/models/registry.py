"""Backbones by name: ours, then those of plug-ins."""

from taskgroup.errors import ConfigError
from taskgroup.models.backbones.base import Backbone
from taskgroup.models.backbones.convnext3d import ConvNeXt3D
from taskgroup.models.backbones.descriptors import DescriptorNetwork
from taskgroup.models.backbones.msa3dcnn import MSA3DCNN
from taskgroup.models.backbones.peak_network import PeakNetwork
from taskgroup.models.backbones.radial3d import Radial3D
from taskgroup.models.backbones.resnet3d import ResNet3D
from taskgroup.registry import Registry

BACKBONES: Registry[type[Backbone]] = Registry(
    "backbone",
    "taskgroup.backbones",
    {
        "msa3dcnn": MSA3DCNN,
        "radial3d": Radial3D,
        "resnet3d": ResNet3D,
        "convnext3d": ConvNeXt3D,
        "descriptors": DescriptorNetwork,
        "peaks": PeakNetwork,
    },
    ConfigError,
)


def backbones_with(setting: str) -> list[str]:
    """Return the names of the backbones that have a setting of this name.

    Plug-ins are imported only if none of ours has it.
    """
    ours = BACKBONES.builtin_names
    found = [name for name in ours if setting in BACKBONES[name].Settings.model_fields]
    if found:
        return found
    plugins = [name for name in BACKBONES if name not in ours]
    return [name for name in plugins if setting in BACKBONES[name].Settings.model_fields]
