"""What the network sees of a stored density.

``prepare`` is deterministic and done once a dataset: fields and their distribution. ``augment`` draws an exact
invariance for a batch: a scalar property does not depend on origin, order or sign of the lattice vectors (fractional
view), nor on orientation (Cartesian view).

A prepared row is one flat vector, the grid followed by the distribution; ``unpack`` takes it apart without a copy.
"""

import torch
from torch import Tensor, nn

from taskgroup.errors import ConfigError
from taskgroup.models.config import ModelConfig
from taskgroup.models.fields import N_STATISTICS, compress, density_fields, distribution


class View(nn.Module):
    """Fields on the cell's own fractional grid, n points an axis.

    Parameters
    ----------
    config: the view settings of a ModelConfig.
    in_channels: density channels, 1 or 2.   grid: points an axis of the stored densities, a multiple of n.

    Raises ConfigError: n does not divide the stored grid.
    """

    def __init__(self, config: ModelConfig, in_channels: int, grid: int) -> None:
        super().__init__()
        if grid % config.n:
            raise ConfigError(f"model.n: must divide the stored grid of {grid} points an axis, found {config.n}")
        self.config, self.in_channels, self.grid = config, in_channels, grid
        self.out_channels = in_channels * len(config.fields) * (1 + len(config.widths))
        self.has_grid = config.backbone != "descriptors"
        self.n_descriptors = self.out_channels * N_STATISTICS if config.descriptors or not self.has_grid else 0
        self._shape = (self.out_channels, config.n, config.n, config.n)

    @property
    def key(self) -> str:
        """Equal for views that prepare equal rows."""
        c = self.config
        kept = (c.fields, c.widths, c.scaling, self.has_grid and c.n, self.has_grid and c.view, self.n_descriptors)
        return repr((*kept, self.in_channels, self.grid))

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Rows [B, L] of densities [B, C, N, N, N] in e/Å^3 and cells [B, 3, 3] in Å.

        Fields are computed on the stored grid, compressed, and averaged over blocks down to n points an axis: the mean
        of a block is what a coarser network can know of it, and blocks map onto blocks under every exact invariance
        (origin shifts by whole blocks, permutations, reversals).
        """
        fields = density_fields(density, lattice, self.config.fields, self.config.widths)
        fields = compress(fields, self.config.scaling)
        parts = []
        if self.has_grid:
            block = self.grid // self.config.n
            parts.append(nn.functional.avg_pool3d(fields, block).flatten(1))
        if self.n_descriptors:
            parts.append(distribution(fields))
        return torch.cat(parts, dim=1)

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The grid [B, C', n, n, n] (empty for a view without one) and the distribution [B, D] of prepared rows."""
        split = rows.shape[1] - self.n_descriptors
        grid = rows[:, :split].unflatten(1, self._shape) if self.has_grid else rows[:, :0]
        return grid, rows[:, split:]

    def augment(self, rows: Tensor, lattice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random origin shift, axis order and axis reversal, one draw a batch; lattice vectors follow.

        All three are one gather with an index made on the device, so nothing waits for the host. Batches are random, so
        the draws a crystal sees differ from epoch to epoch.
        """
        if not self.has_grid:
            return rows, lattice
        n, device = self.config.n, rows.device
        order = torch.randperm(3, generator=generator, device=device)
        signs = 1 - 2 * torch.randint(0, 2, (3,), generator=generator, device=device)
        shift = torch.randint(0, n, (3,), generator=generator, device=device)
        index = (signs[:, None] * torch.arange(n, device=device) + shift[:, None]) % n  # source index along each axis
        strides = n ** (2 - order)
        i, j, k = (index * strides[:, None]).unbind()
        source = (i[:, None, None] + j[:, None] + k).flatten()
        grid, rest = self.unpack(rows)
        grid = grid.flatten(2).index_select(2, source)
        return torch.cat([grid.flatten(1), rest], dim=1), lattice[:, order] * signs[:, None].to(lattice)

    def look(self, grid: Tensor, lattice: Tensor) -> Tensor:
        """What the backbone gets: the grid itself."""
        return grid


class CartesianView(View):
    """A cube of fixed edge (Å) cut out of the periodic crystal, sampled trilinearly from the prepared fields.

    In training its origin and orientation are drawn anew for every crystal and step; in evaluation it lies along the
    axes with the cell's origin at its centre.
    """

    def augment(self, rows: Tensor, lattice: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Move the origin, and turn every cell at random; the cube is cut by ``look``."""
        rows, lattice = super().augment(rows, lattice, generator)
        normal = torch.randn(len(rows), 3, 3, generator=generator, device=rows.device, dtype=lattice.dtype)
        turn, _ = torch.linalg.qr(normal)
        return rows, lattice @ turn

    def look(self, grid: Tensor, lattice: Tensor) -> Tensor:
        """Sample [B, C', n, n, n] points of the cube, wrapping around the cell."""
        n = self.config.n
        axis = (torch.arange(n, device=grid.device, dtype=torch.float32) + 0.5) / n - 0.5
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1) * self.config.edge
        fractional = torch.einsum("xyzk,bki->bxyzi", points, torch.linalg.inv(lattice.float()))
        wrapped = (fractional % 1.0) * n + 1.0  # in points of the grid padded by one on each side
        padded = nn.functional.pad(grid, (1, 1) * 3, mode="circular")
        unit = (wrapped + 0.5) / (n + 2) * 2 - 1
        return nn.functional.grid_sample(padded.float(), unit.flip(-1), mode="bilinear", align_corners=False)


def make_view(config: ModelConfig, in_channels: int, grid: int) -> View:
    """The view that a configuration names."""
    return (CartesianView if config.view == "cartesian" else View)(config, in_channels, grid)
