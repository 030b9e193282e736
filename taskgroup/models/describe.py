"""Numbers that describe a density, for forests and other methods that are no networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from taskgroup.models.config import ModelConfig
from taskgroup.models.views import CrystalBatch, DistributionView

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def descriptors(
    density: ArrayLike,
    lattice: ArrayLike,
    config: ModelConfig | None = None,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Return numbers [B, D] that describe densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å).

    The distribution of the density and its differential fields at several Gaussian widths. ``config`` names fields,
    widths and scaling. The numbers do not depend on which cell describes the crystal.
    """
    config = config or ModelConfig(backbone="descriptors")
    densities, cells = np.asarray(density), np.asarray(lattice)
    view = DistributionView(config, densities.shape[1])
    parts = []
    for start in range(0, len(densities), batch_size):
        batch = slice(start, start + batch_size)
        crystals = CrystalBatch.of(densities[batch], cells[batch])
        parts.append(view.prepare(crystals)["statistics"].numpy())
    return np.concatenate(parts)
