"""The part of a network that all targets share."""

import torch
from torch import Tensor, nn

from taskgroup.models.backbones.descriptors import DescriptorNetwork
from taskgroup.models.config import ModelConfig
from taskgroup.models.lattice import N_LATTICE_FEATURES, lattice_features
from taskgroup.models.registry import BACKBONES
from taskgroup.models.views import PreparedRows, View


class Trunk(nn.Module):
    """Backbone, the distribution's branch beside it, and the cell, joined to features [B, F].

    Features are the sum of a layer and a linear map: what is a plain sum (mass over volume) then needs no detour
    through an activation or dropout. Behind them, as they are, stand the backbone's plain sums and the cell.

    ``bfloat16`` lets the backbone compute in bfloat16.
    """

    def __init__(self, config: ModelConfig, view: View) -> None:
        super().__init__()
        kind = BACKBONES.find(config.backbone.name)
        self.bfloat16 = False
        self.uses_cell = config.lattice_features
        self.backbone = kind(config, view)
        n_cell = N_LATTICE_FEATURES if self.uses_cell else 0
        self.n_plain = self.backbone.n_plain + n_cell
        joined = self.backbone.n_features + n_cell
        self.statistics = None
        if view.n_statistics and not kind.uses_statistics:
            self.statistics = DescriptorNetwork(config, view)
            joined += self.statistics.n_features
        self.norm = nn.BatchNorm1d(joined)
        self.bent = nn.Sequential(
            nn.Linear(joined, config.features), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.straight = nn.Linear(joined, config.features)
        self.n_features = config.features + self.n_plain

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of what the view shows and cells [B, 3, 3]."""
        parts = []
        if self.statistics is not None:
            parts.append(self.statistics(rows, lattice))
        parts.append(self._backbone_features(rows, lattice))
        if self.uses_cell:
            parts.append(lattice_features(lattice))
        joined = self.norm(torch.cat(parts, dim=1))
        plain = joined[:, joined.shape[1] - self.n_plain :]
        return torch.cat([self.bent(joined) + self.straight(joined), plain], dim=1)

    def _backbone_features(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        if not self.bfloat16:
            return self.backbone(rows, lattice)
        with torch.autocast(lattice.device.type, torch.bfloat16):
            return self.backbone(rows, lattice).float()
