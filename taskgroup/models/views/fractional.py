"""The cell's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskgroup.models.views.grid import GridView

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class FractionalView(GridView):
    """Fields on the cell's own grid, continued periodically; any order and sign of the lattice vectors is drawn."""

    version = 2

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        # a buffer, so that it lies on the device: a copy at each step would wait for the device
        self.register_buffer("_orders", torch.tensor(_ORDERS), persistent=False)

    def _turned(
        self, lattice: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, device = len(lattice), lattice.device
        sign = torch.randint(0, 2, (count, 3), generator=generator, device=device) * 2 - 1
        draw = torch.randint(0, len(_ORDERS), (count,), generator=generator, device=device)
        order = self._orders[draw]
        vectors = lattice.gather(1, order[:, :, None].expand(-1, -1, 3))
        return sign, order, vectors * sign[:, :, None].to(lattice)
