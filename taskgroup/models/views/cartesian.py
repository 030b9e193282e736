"""A cube of fixed edge."""

import torch
from torch import Tensor, nn

from taskgroup.models.lattice import reciprocal
from taskgroup.models.views.grid import GridView
from taskgroup.models.views.rows import PreparedRows


class CartesianView(GridView):
    """A cube of fixed edge (Å) cut out of the periodic crystal, interpolated linearly from the prepared grid.

    In evaluation the same crystal always shows the same piece: the cube along the Cartesian axes about the origin. In
    training any orientation (rotations and reflections alike) of the cell is drawn; its grid keeps its axes.
    """

    version = 2

    def _turned(
        self, lattice: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        count, device = len(lattice), lattice.device
        same_order = torch.arange(3, device=device).expand(count, 3)
        turns = _random_orthogonal(count, generator, device).to(lattice)
        return torch.ones_like(same_order), same_order, lattice @ turns

    def forward(self, rows: PreparedRows, lattice: Tensor) -> PreparedRows:
        """Return rows with the cube [B, C', n, n, n] as grid.

        Its values are those at (i + 1/2) / n - 1/2 of the edge along each Cartesian axis.
        """
        return rows.replace(grid=self._cube(rows["grid"], lattice))

    def _cube(self, grid: Tensor, lattice: Tensor) -> Tensor:
        n = grid.shape[-1]
        steps = torch.arange(n, device=grid.device, dtype=torch.float32)
        line = ((steps + 0.5) / n - 0.5) * self.config.edge
        points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).flatten(0, 2)
        fractional = (points @ reciprocal(lattice.float())).unflatten(1, (n, n, n))
        # in points of the grid, 0 <= at < n
        at = (fractional % 1.0) * n
        # one period and its first plane again, since grid_sample knows no periodic padding
        padded = torch.cat([grid, grid[:, :, :1]], dim=2)
        padded = torch.cat([padded, padded[:, :, :, :1]], dim=3)
        padded = torch.cat([padded, padded[..., :1]], dim=4)
        # grid_sample's coordinates: -1 is the first point and 1 the last, and x is the last axis
        unit = at * (2 / n) - 1
        return nn.functional.grid_sample(
            padded.float(), unit.flip(-1), mode="bilinear", align_corners=True
        )


def _random_orthogonal(
    count: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Uniform random orthogonal matrices [count, 3, 3]: Gram-Schmidt of Gaussian vectors, then a random reflection."""
    a, b, c = torch.randn(3, count, 3, generator=generator, device=device)
    a = nn.functional.normalize(a, dim=1)
    b = nn.functional.normalize(b - (a * b).sum(1, keepdim=True) * a, dim=1)
    normal = torch.linalg.cross(a, b)
    side = (c * normal).sum(1, keepdim=True).sign()
    return torch.stack([a, b, normal * side], dim=1)
