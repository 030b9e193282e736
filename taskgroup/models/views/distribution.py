"""The distribution of the fields alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskgroup.models.views.base import View
from taskgroup.models.views.rows import PreparedRows
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig


class DistributionView(View):
    """The distribution alone: rows of ``statistics`` [B, D], which are invariant already."""

    version = 1

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives."""
        config = self.config
        return config.fields, config.widths, config.scaling

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> PreparedRows:
        """Return rows of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å)."""
        density = self._seen(density)
        return PreparedRows.of(statistics=distribution(self._fields(density, lattice), density))
