"""A perceptron on the distribution of the density's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from taskgroup.models.backbones.base import Backbone, BackboneSettings
from taskgroup.models.views import DistributionView, PreparedRows, View

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig


class DescriptorSettings(BackboneSettings):
    """Settings of the perceptron: its width."""

    def n_points(self, grid: int) -> int:
        """Return 1: there is no grid."""
        return 1


class DescriptorNetwork(Backbone):
    """A perceptron on the distribution: no convolution, the cheapest fidelity, and a branch beside the others.

    Its input is standardised by the running mean and variance of the training rows.
    """

    Settings = DescriptorSettings
    version = 1
    autocast = False
    uses_statistics = True

    def __init__(self, config: ModelConfig, view: View) -> None:
        super().__init__(config, view)
        self.n_features = 8 * config.backbone.width
        self.standardise = _Standardise(view.n_statistics, affine=False)
        self.layers = nn.Sequential(
            nn.Linear(view.n_statistics, self.n_features), nn.SiLU(), nn.Dropout(config.dropout)
        )

    @classmethod
    def view_class(cls, config: ModelConfig) -> type[View]:
        """Return the distribution alone."""
        return DistributionView

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of the statistics [B, D]."""
        return self.layers(self.standardise(rows["statistics"]))


class _Standardise(nn.BatchNorm1d):
    """Batch normalisation whose running statistics are means over all batches so far.

    ``momentum=None`` gives the same, but reads its count on the host, which then waits for the device at each step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of the input [B, D]."""
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, 0)
            rate = 1.0 / self.num_batches_tracked
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance, rate)
        return nn.functional.batch_norm(x, None, None, training=True, eps=self.eps)
