"""No convolution: the distribution of the density's fields into a small network, or into a forest.

The cheapest fidelity, and the baseline that every network must beat: quantiles and moments of the density, its gradient
and Laplacian at several widths know much of what the crystal is.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taskgroup.models.backbone import Backbone, register
from taskgroup.models.config import ModelConfig
from taskgroup.models.fields import compress, density_fields, distribution


@register
class DescriptorBackbone(Backbone):
    """Adds nothing to the distribution that MultiTaskNetwork appends to every backbone's features."""

    name = "descriptors"

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_features = 0

    def forward(self, grid: Tensor) -> Tensor:
        """[B, 0] -> [B, 0]."""
        return grid


def density_descriptors(
    density: NDArray, lattice: NDArray, widths: tuple[float, ...] = (0.4, 0.8), fields: tuple[str, ...] = ()
) -> NDArray[np.float32]:
    """Descriptors [B, D] of densities [B, C, N, N, N] (e/Å^3) and cells [B, 3, 3] (Å), for scikit-learn.

    The distribution of every field at every width, then log cell volume (log Å^3) and log electrons.
    """
    names = fields or ("density", "gradient", "laplacian", "reduced_gradient")
    rho = torch.as_tensor(np.asarray(density, dtype=np.float32))
    cell = torch.as_tensor(np.asarray(lattice, dtype=np.float32))
    with torch.no_grad():
        found = distribution(compress(density_fields(rho, cell, names, widths), "cbrt"))
        volume = torch.linalg.det(cell).abs()
        electrons = rho[:, 0].mean((1, 2, 3)).clamp_min(1e-6) * volume
    return torch.cat([found, volume.log()[:, None], electrons.log()[:, None]], dim=1).numpy()
