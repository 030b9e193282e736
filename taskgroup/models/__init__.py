"""Networks that read charge densities: view -> backbone -> pooled features -> a head a target.

config      what a network looks like          views       what it sees of a density; exact invariances
fields      differential fields, distribution  layers      periodic convolution, attention
pooling     grid -> features                   backbone    the interface, the registry
msa3dcnn, resnet3d, descriptors  backbones     multitask   heads and units
"""

from taskgroup.models.backbone import BACKBONES, Backbone, backbone_names, register
from taskgroup.models.config import ModelConfig
from taskgroup.models.descriptors import DescriptorBackbone, density_descriptors
from taskgroup.models.layers import PeriodicConv3d, periodic_pad
from taskgroup.models.msa3dcnn import MSA3DCNN
from taskgroup.models.multitask import MultiTaskNetwork, lattice_features
from taskgroup.models.resnet3d import ResNet3D
from taskgroup.models.views import CartesianView, View, make_view

__all__ = [
    "BACKBONES",
    "MSA3DCNN",
    "Backbone",
    "CartesianView",
    "DescriptorBackbone",
    "ModelConfig",
    "MultiTaskNetwork",
    "PeriodicConv3d",
    "ResNet3D",
    "View",
    "backbone_names",
    "density_descriptors",
    "lattice_features",
    "make_view",
    "periodic_pad",
    "register",
]
