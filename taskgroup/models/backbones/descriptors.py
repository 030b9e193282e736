"""The distribution of the density's fields as the whole input: a small network, or numbers for a forest."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from taskgroup.models.backbones.base import Backbone
from taskgroup.models.config import ModelConfig
from taskgroup.models.views.rows import PreparedRows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class DescriptorNetwork(Backbone):
    """A perceptron on the distribution: no convolution, the cheapest fidelity, and a branch beside the others.

    Its input is standardised by the running mean and variance of the training rows.
    """

    sees = "distribution"

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_features = 8 * config.width
        self.standardise = _Standardise(in_channels, affine=False)
        self.layers = nn.Sequential(
            nn.Linear(in_channels, self.n_features), nn.SiLU(), nn.Dropout(config.dropout)
        )

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of the statistics [B, D]."""
        return self.layers(self.standardise(rows["statistics"]))


class _Standardise(nn.BatchNorm1d):
    """Batch normalisation whose running statistics are means over all batches so far.

    As ``momentum=None`` is, but the count stays on the device: the host does not wait for it at each step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> the same shape."""
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, 0)
            rate = 1.0 / self.num_batches_tracked
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance, rate)
        return nn.functional.batch_norm(x, None, None, training=True, eps=self.eps)


def descriptors(
    density: "ArrayLike",
    lattice: "ArrayLike",
    config: ModelConfig | None = None,
    batch_size: int = 64,
) -> "NDArray[np.float32]":
    """Numbers [B, D] that describe densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å), for forests and others.

    The distribution of the density and its differential fields at several Gaussian widths, then volume and shape of the
    cell. ``config`` names fields, widths and scaling.
    """
    from taskgroup.models.lattice import lattice_features
    from taskgroup.models.views import DistributionView

    chosen = config or ModelConfig(backbone="descriptors")
    densities, cells = np.asarray(density), np.asarray(lattice)
    view = DistributionView(chosen, densities.shape[1])
    parts = []
    for start in range(0, len(densities), batch_size):
        cell = torch.tensor(cells[start : start + batch_size], dtype=torch.float32)
        rho = torch.tensor(densities[start : start + batch_size], dtype=torch.float32)
        statistics = view.prepare(rho, cell)["statistics"]
        parts.append(torch.cat([statistics, lattice_features(cell)], dim=1))
    return torch.cat(parts).numpy()
