"""Networks that read properties off charge densities.

>>> import torch
>>> from taskgroup.datasets import Target, TargetScaler
>>> from taskgroup.models import CrystalBatch, ModelConfig, MultiTaskNetwork
>>> targets = (Target("band_gap", unit="eV"), Target("is_metal", kind="classification"))
>>> scaler = TargetScaler.fit(targets, [[0.0, 1], [1.0, 0], [4.0, 0]])
>>> network = MultiTaskNetwork(ModelConfig(width=4, grid=8), targets, scaler)
>>> crystals = CrystalBatch(torch.rand(2, 1, 16, 16, 16), torch.eye(3).repeat(2, 1, 1) * 4.0)
>>> network.predict(crystals).shape  # eV, and the probability of a metal
torch.Size([2, 2])
"""

from taskgroup.models.backbones.base import Backbone, BackboneSettings, Lesson
from taskgroup.models.config import ModelConfig, setting_names
from taskgroup.models.describe import descriptors
from taskgroup.models.layers import PeriodicConv3d
from taskgroup.models.migrate import migrate_state
from taskgroup.models.multitask import MultiTaskNetwork, make_view
from taskgroup.models.registry import BACKBONES
from taskgroup.models.versions import meaning
from taskgroup.models.views import AtomBatch, CrystalBatch, PreparedRows, View

__all__ = [
    "BACKBONES",
    "AtomBatch",
    "Backbone",
    "BackboneSettings",
    "CrystalBatch",
    "Lesson",
    "ModelConfig",
    "MultiTaskNetwork",
    "PeriodicConv3d",
    "PreparedRows",
    "View",
    "descriptors",
    "make_view",
    "meaning",
    "migrate_state",
    "setting_names",
]
