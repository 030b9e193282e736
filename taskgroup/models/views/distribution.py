"""The distribution of the fields alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from taskgroup.models.views.base import View
from taskgroup.models.views.crystal_batch import CrystalBatch
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
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the densities of crystals."""
        density = self._seen(crystals)
        fields = self._fields(density, crystals.lattice)
        return PreparedRows.of(statistics=distribution(fields, density))
