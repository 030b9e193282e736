"""Views that keep where things are: a grid of field values, and their distribution beside it.

The density's Fourier series is evaluated at the least multiple of the view's points, along each vector, that holds the
stored ones. Fields are computed there, scaled, and averaged over blocks of points down to the view's grid. Averaging
maps blocks onto blocks under every shift by whole blocks, every reordering and reversal, so these stay exact. It keeps
the mean of each channel (of the unscaled density: the charge). What it blurs inside a block, the distribution on the
finer grid keeps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from taskgroup.models.fields import on_finer_grid
from taskgroup.models.views.base import View
from taskgroup.models.views.crystal_batch import CrystalBatch
from taskgroup.models.views.rows import PreparedRows, channels_last, gather_rows
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig


class GridView(View):
    """Base of the views on grids: rows of ``grid`` [B, C', n, n, n] and, if asked for, ``statistics`` [B, D].

    A subclass says which invariances it draws.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        if config.descriptors:
            self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives."""
        config = self.config
        return config.grid, config.fields, config.widths, config.scaling, config.descriptors

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the densities of crystals, whose grids may have any shape."""
        n = self.config.grid
        stored = self._seen(crystals)
        blocks = [math.ceil(points / n) for points in stored.shape[2:]]
        density = on_finer_grid(stored, [n * block for block in blocks])
        fields = self._fields(density, crystals.lattice)
        grid = nn.functional.avg_pool3d(fields, blocks) if max(blocks) > 1 else fields
        if not self.n_statistics:
            return PreparedRows.of(grid=grid)
        return PreparedRows.of(grid=grid, statistics=distribution(fields, density))

    def augment(
        self,
        rows: PreparedRows,
        lattice: Tensor,
        generator: torch.Generator | None,
        out: PreparedRows | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[PreparedRows, Tensor]:
        """Return rows whose grid is shifted and turned at random, and the cells as they then are; see ``View``."""
        grid = rows["grid"]
        if chosen is None:
            chosen = torch.arange(len(rows), device=grid.device)
        shape = (len(chosen), 3)
        shift = torch.randint(0, grid.shape[-1], shape, generator=generator, device=grid.device)
        sign, order, turned = self._turned(lattice[chosen], generator)
        parts = {}
        for name, tensor in rows.items():
            room = None if out is None else out[name]
            if name == "grid":
                parts[name] = _moved_grid(tensor, chosen, shift, sign, order, room)
            else:
                # the distribution does not know where a point is
                parts[name] = gather_rows(tensor, chosen, room)
        return PreparedRows.of(**parts), turned

    def _turned(
        self, lattice: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw signs and orders of the grid's axes [B, 3]; return them and the cells [B, 3, 3] as they then are."""
        raise NotImplementedError


def _moved_grid(
    grid: Tensor, chosen: Tensor, shift: Tensor, sign: Tensor, order: Tensor, out: Tensor | None
) -> Tensor:
    """Chosen grids that have at i what was at (sign * i + shift) % n along the axes ``order``, [B, 3] each.

    One gather of whole points, channels last: half the time of a gather of single values, and the layout that
    convolutions want.
    """
    n, channels = grid.shape[-1], grid.shape[1]
    # number of a point in the grid = x n^2 + y n + z: strides of the source's axes, in the order of the new axes
    stride = n ** (2 - order)
    steps = torch.arange(n, device=grid.device)
    along_axes = (sign[..., None] * steps + shift[..., None]) % n * stride[..., None]
    x, y, z = along_axes.unbind(1)
    first = chosen[:, None, None, None] * n**3
    index = first + x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    points = channels_last(grid).reshape(-1, channels)
    room = None if out is None else channels_last(out)[: len(chosen)].view(-1, channels)
    moved = torch.index_select(points, 0, index.flatten(), out=room)
    return moved.view(len(chosen), n, n, n, channels).movedim(-1, 1)
