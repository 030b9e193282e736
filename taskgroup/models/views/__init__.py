"""What a network sees of a stored density.

``prepare`` is deterministic and done once a dataset; ``augment`` draws an exact invariance at each training step: a
scalar property does not depend on the origin, nor on order or sign of the lattice vectors, nor (Cartesian view) on
orientation. ``split`` and ``look`` give the backbone its input.

Fields are computed on the stored grid, scaled, and averaged over blocks of points down to the view's grid. Averaging
maps blocks onto blocks under every shift by whole blocks, every reordering and reversal, so these stay exact; it keeps
the mean of each channel (of the unscaled density: the charge); what it blurs inside a block, the distribution on the
stored grid keeps.
"""

import math

import torch
from torch import Tensor, nn

from taskgroup.errors import ConfigError
from taskgroup.models.config import ModelConfig
from taskgroup.models.fields import density_fields, scale_values
from taskgroup.models.lattice import reciprocal
from taskgroup.models.neighbours import DISTANCES, nearness
from taskgroup.models.peak_finding import find_peaks, n_columns, peak_table
from taskgroup.models.views.statistics import distribution, n_statistics

_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class View(nn.Module):
    """Base of the views. ``out_channels`` is C', the channels of the grid; ``n_statistics`` is D, of the distribution.

    ``in_channels`` is how many channels of a density are looked at: 1, or 2 with the magnetisation.

    A prepared row [C' + S, n, n, n] carries its distribution in S further channels, filled up with zeros, so that one
    tensor holds all of it.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels = config, in_channels if config.magnetisation else 1
        self.out_channels = self.in_channels * len(config.fields) * (1 + len(config.widths))
        self.n_statistics = (
            n_statistics(self.out_channels, self.in_channels) if config.descriptors else 0
        )
        self.n_columns = 0  # of a peak
        self.register_buffer(
            "_axes", torch.tensor(_ORDERS), persistent=False
        )  # on the device: a copy waits for it

    @property
    def key(self) -> str:
        """Equal for views that prepare equal rows."""
        config = self.config
        kept = (
            config.grid,
            config.fields,
            config.widths,
            config.scaling,
            config.descriptors,
            self.in_channels,
        )
        return f"{type(self).__name__}{kept}"

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Rows [B, C' + S, n, n, n] of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å); n = min(grid, N).

        Raises ConfigError: n does not divide N, or the patch does not divide n.
        """
        density = self._seen(density)
        n, stored = min(self.config.grid, density.shape[-1]), density.shape[-1]
        if stored % n or n % self.config.patch:
            raise ConfigError(
                f"model.grid, model.patch: the patch must divide the grid and the grid the stored {stored} points, "
                f"found {n} and {self.config.patch}"
            )
        fields = self._fields(density, lattice)
        grid = nn.functional.avg_pool3d(fields, stored // n) if n < stored else fields
        if not self.n_statistics:
            return grid
        statistics = distribution(fields, density)
        room = -(-self.n_statistics // n**3) * n**3
        carried = nn.functional.pad(statistics, (0, room - self.n_statistics)).unflatten(
            1, (room // n**3, n, n, n)
        )
        return torch.cat([grid, carried], dim=1)

    def trimmed(self, rows: Tensor) -> Tensor:
        """Prepared rows of a whole dataset without room that none of them needs."""
        return rows

    def _seen(self, density: Tensor) -> Tensor:
        """The channels looked at; a net magnetisation that points down is turned up, which is the same crystal."""
        if self.in_channels == 1:
            return density[:, :1]
        down = density[:, 1:2].sum((2, 3, 4), keepdim=True) < 0
        return torch.cat(
            [density[:, :1], torch.where(down, -density[:, 1:2], density[:, 1:2])], dim=1
        )

    def _fields(self, density: Tensor, lattice: Tensor) -> Tensor:
        fields = density_fields(
            density.float(), lattice.float(), self.config.fields, self.config.widths
        )
        return scale_values(fields, self.config.scaling)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The grid [B, C', n, n, n] and the distribution [B, D] of prepared rows."""
        return rows[:, : self.out_channels], self._carried(rows).flatten(1)[:, : self.n_statistics]

    def _carried(self, rows: Tensor) -> Tensor:
        """The part of the rows [B, C' + S, n, n, n] that holds the distribution: of one channel, its first planes."""
        carried = rows[:, self.out_channels :]
        return (
            carried[:, :, : -(-self.n_statistics // rows.shape[-1] ** 2)]
            if carried.shape[1] == 1
            else carried
        )

    def look(self, grid: Tensor, lattice: Tensor) -> Tensor:
        """What the backbone gets of a grid [B, C', n, n, n]."""
        return grid

    def augment(
        self,
        rows: Tensor,
        lattice: Tensor,
        generator: torch.Generator,
        out: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rows and cells after random exact invariances, drawn for each row on its device; the host does not wait.

        ``out`` [at least B, n, n, n, C' + S] is room for the new rows, to save its allocation. ``chosen`` [B], int64,
        picks B of the rows given: what ``augment(rows[chosen], lattice[chosen], ...)`` gives, in one gather.
        """
        chosen = torch.arange(len(rows), device=rows.device) if chosen is None else chosen
        shift = torch.randint(
            0, rows.shape[-1], (len(chosen), 3), generator=generator, device=rows.device
        )
        sign, order, turned = self._turned(lattice[chosen], generator)
        return self._moved(rows, chosen, shift, sign, order, out), turned

    def _turned(self, lattice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random signs and orders of the grid's axes [B, 3] for cells [B, 3, 3], and the cells as they then are."""
        raise NotImplementedError

    def _moved(
        self,
        rows: Tensor,
        chosen: Tensor,
        shift: Tensor,
        sign: Tensor,
        order: Tensor,
        out: Tensor | None,
    ) -> Tensor:
        """Chosen rows whose grid has at i what was at (sign * i + shift) % n along the axes ``order``, [B, 3] each.

        One gather of whole points, channels last: half the time of one of single values, and what convolutions want.
        """
        n = rows.shape[-1]
        stride = n ** (2 - order)
        steps = torch.arange(n, device=rows.device)
        x, y, z = ((sign[..., None] * steps + shift[..., None]) % n * stride[..., None]).unbind(1)
        first = chosen[:, None, None, None] * n**3
        index = (first + x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]).flatten()
        points = rows.permute(0, 2, 3, 4, 1)
        room = None if out is None else out[: len(chosen)].view(-1, rows.shape[1])
        moved = torch.index_select(points.reshape(-1, rows.shape[1]), 0, index, out=room)
        moved = moved.view(len(chosen), *points.shape[1:]).permute(0, 4, 1, 2, 3)
        self._carried(moved).copy_(self._carried(rows)[chosen])
        return moved


class FractionalView(View):
    """Fields on the cell's own grid, continued periodically."""

    def _turned(self, lattice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Any order and sign of the lattice vectors."""
        count, device = len(lattice), lattice.device
        sign = torch.randint(0, 2, (count, 3), generator=generator, device=device) * 2 - 1
        draw = torch.randint(0, len(_ORDERS), (count,), generator=generator, device=device)
        order = self._axes[draw]
        return (
            sign,
            order,
            lattice.gather(1, order[:, :, None].expand(-1, -1, 3)) * sign[:, :, None].to(lattice),
        )


class CartesianView(View):
    """A cube of fixed edge (Å) cut out of the periodic crystal, interpolated linearly from the prepared grid.

    The same crystal always shows the same piece in evaluation: the cube along the Cartesian axes about the origin.
    """

    def _turned(self, lattice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Any orientation (rotations and reflections alike) of the cell, not of its grid; ``look`` cuts the cube."""
        count, device = len(lattice), lattice.device
        same = torch.arange(3, device=device).expand(count, 3)
        return (
            torch.ones_like(same),
            same,
            lattice @ _orthogonal(count, generator, device).to(lattice),
        )

    def look(self, grid: Tensor, lattice: Tensor) -> Tensor:
        """The cube [B, C', n, n, n]: values at (i + 1/2) / n - 1/2 of its edge along each Cartesian axis."""
        n = grid.shape[-1]
        line = (
            (torch.arange(n, device=grid.device, dtype=torch.float32) + 0.5) / n - 0.5
        ) * self.config.edge
        points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).flatten(0, 2)
        fractional = (points @ reciprocal(lattice.float())).unflatten(1, (n, n, n))
        at = (fractional % 1.0) * n  # in points of the grid, 0 <= at < n
        padded = torch.cat([grid, grid[:, :, :1]], dim=2)  # one period and its first plane again
        padded = torch.cat([padded, padded[:, :, :, :1]], dim=3)
        padded = torch.cat([padded, padded[..., :1]], dim=4)
        unit = (
            at * (2 / n) - 1
        )  # grid_sample's coordinates, -1 the first point and 1 the last; x is the last axis
        return nn.functional.grid_sample(
            padded.float(), unit.flip(-1), mode="bilinear", align_corners=True
        )


class InvariantView(View):
    """Base of the views whose rows are already invariant: nothing to augment."""

    def augment(
        self,
        rows: Tensor,
        lattice: Tensor,
        generator: torch.Generator,
        out: Tensor | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As they are."""
        if chosen is None:
            return rows, lattice
        return torch.index_select(
            rows, 0, chosen, out=None if out is None else out[: len(chosen)]
        ), lattice[chosen]


class DescriptorView(InvariantView):
    """The distribution alone: rows [B, D]."""

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    @property
    def key(self) -> str:
        """Equal for views that prepare equal rows."""
        config = self.config
        return f"{type(self).__name__}{(config.fields, config.widths, config.scaling, self.in_channels)}"

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Rows [B, D] of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å)."""
        density = self._seen(density)
        return distribution(self._fields(density, lattice), density)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """No grid, and the rows."""
        return rows[:, :0], rows


class PeakView(InvariantView):
    """The peaks of the density and how near they are, with the distribution behind: rows [B, K * columns + D].

    The first ``n_columns`` of a peak say what it looks like, further ones how near to it the others are; the last three
    are its fractional position, which no network looks at.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_columns = n_columns(self.in_channels)

    @property
    def key(self) -> str:
        """Equal for views that prepare equal rows."""
        config = self.config
        kept = (config.fields, config.widths, config.scaling) if config.descriptors else ()
        return f"{type(self).__name__}{(kept, self.in_channels)}"

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Rows of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å)."""
        density = self._seen(density)
        peaks = find_peaks(density, lattice)
        near = nearness(peaks.at, peaks.present, lattice.float())
        rows = torch.cat(
            [peak_table(density, lattice, peaks), near, peaks.at.to(near)], dim=2
        ).flatten(1)
        if not self.n_statistics:
            return rows
        return torch.cat([rows, distribution(self._fields(density, lattice), density)], dim=1)

    def trimmed(self, rows: Tensor) -> Tensor:
        """With as many peaks as the row that has most."""
        peaks, statistics = self.split(rows)
        most = max(1, int(peaks[:, :, 0].sum(1).max()))
        own, near, at = peaks[:, :most].split(
            [self.n_columns, len(DISTANCES) * peaks.shape[1], 3], dim=2
        )
        near = near.unflatten(2, (len(DISTANCES), -1))[..., :most].flatten(2)
        return torch.cat([torch.cat([own, near, at], dim=2).flatten(1), statistics], dim=1)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Peaks [B, K, columns, nearness and position] and the distribution [B, D]."""
        size, columns, distances = (
            rows.shape[1] - self.n_statistics,
            self.n_columns + 3,
            len(DISTANCES),
        )
        peaks = round(
            (math.sqrt(columns**2 + 4 * distances * size) - columns) / (2 * distances)
        )  # K of K (c + d K)
        return rows[:, :size].unflatten(1, (peaks, columns + distances * peaks)), rows[:, size:]


def _orthogonal(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random orthogonal matrices [count, 3, 3], uniform: Gram-Schmidt of Gaussian vectors, then a random reflection."""
    a, b, c = torch.randn(3, count, 3, generator=generator, device=device)
    a = nn.functional.normalize(a, dim=1)
    b = nn.functional.normalize(b - (a * b).sum(1, keepdim=True) * a, dim=1)
    c = torch.linalg.cross(a, b) * (c * torch.linalg.cross(a, b)).sum(1, keepdim=True).sign()
    return torch.stack([a, b, c], dim=1)
