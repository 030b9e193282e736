"""Backbones by name: ours, then those of plug-ins."""

from functools import cache
from importlib.metadata import entry_points

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.models.backbones.base import Backbone
from taskgroup.models.backbones.convnext3d import ConvNeXt3D
from taskgroup.models.backbones.descriptors import DescriptorNetwork
from taskgroup.models.backbones.msa3dcnn import MSA3DCNN
from taskgroup.models.backbones.peak_network import PeakNetwork
from taskgroup.models.backbones.resnet3d import ResNet3D

BACKBONES: dict[str, type[Backbone]] = {
    "msa3dcnn": MSA3DCNN,
    "resnet3d": ResNet3D,
    "convnext3d": ConvNeXt3D,
    "descriptors": DescriptorNetwork,
    "peaks": PeakNetwork,
}


@cache
def backbone_names() -> tuple[str, ...]:
    """Names that ``ModelConfig.backbone`` may take."""
    return (*BACKBONES, *(point.name for point in entry_points(group="taskgroup.backbones")))


def find_backbone(name: str) -> type[Backbone]:
    """A backbone's class. Raises ConfigError for an unknown name."""
    if name in BACKBONES:
        return BACKBONES[name]
    for point in entry_points(group="taskgroup.backbones", name=name):
        return point.load()
    raise ConfigError(f"backbone: no backbone '{name}'; {did_you_mean(name, backbone_names())}")
