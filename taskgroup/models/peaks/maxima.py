"""Local maxima of periodic fields on grids, and the parabola through the 27 points around each."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from taskgroup.models.lattice import reciprocal

# Neighbours count as equal to a maximum up to this difference: rounding.
_EQUAL = 1e-9
# Added to second derivatives: a plateau has none to divide by.
_PLATEAU = 1e-3
# Farthest a maximum may lie from its grid point, in grid steps; beyond, another point is nearer.
_FARTHEST = 0.75
# Most maxima that are looked at: noise has one in thirty points.
_MOST_MAXIMA = 4096
# Maxima in a traced program, whose sizes may not depend on the density.
_TRACED_MAXIMA = 128


class Maxima(NamedTuple):
    """Local maxima on the grid: ``place`` [B, M, 3] grid points, the highest first.

    ``is_maximum`` [B, M] is False for places that are left over.
    """

    place: Tensor
    is_maximum: Tensor


class Parabola(NamedTuple):
    """Value [B, M], gradient [B, M, 3] and second derivatives [B, M, 3, 3] of a field at grid points, in grid steps."""

    value: Tensor
    slope: Tensor
    bend: Tensor

    def shift(self) -> Tensor:
        """Return the steps [B, M, 3] from the grid point to the maximum."""
        bent = self.bend - _PLATEAU * torch.eye(3).to(self.bend)
        inverse = reciprocal(bent.flatten(0, 1)).unflatten(0, bent.shape[:2])
        step = -(self.slope[..., None, :] @ inverse)[..., 0, :]
        return step.clamp(-_FARTHEST, _FARTHEST)

    def value_at(self, shift: Tensor) -> Tensor:
        """Return the value [B, M] of the parabola at steps [B, M, 3] from the grid point."""
        quadratic = (shift[..., None, :] @ self.bend @ shift[..., None]).flatten(2)[..., 0]
        return self.value + (self.slope * shift).sum(-1) + 0.5 * quadratic

    def cartesian_bend(self, lattice: Tensor, grid: Tensor) -> Tensor:
        """Return second derivatives [B, M, 3, 3] along the Cartesian axes, 1/Å^2, in cells [B, 3, 3] (Å)."""
        per_angstrom = (reciprocal(lattice) * grid.to(lattice))[:, None]
        return per_angstrom @ self.bend @ per_angstrom.transpose(-1, -2)


def grid_of(field: Tensor) -> Tensor:
    """Return the number of points [3] along each axis of a field [..., n1, n2, n3]."""
    return torch.tensor(field.shape[-3:], device=field.device)


def local_maxima(field: Tensor, least: float) -> Maxima:
    """Return the points of a field [B, n1, n2, n3] that are above ``least`` and not below any of their 26 neighbours.

    All of them up to 4096, then the highest; a traced program looks at 128 places, since its sizes are fixed.
    """
    wrapped = nn.functional.pad(field[:, None], (1,) * 6, mode="circular")
    highest_near = nn.functional.max_pool3d(wrapped, 3, stride=1)[:, 0]
    is_highest = (field >= highest_near - _EQUAL) & (field > least)
    score = torch.where(is_highest, field, -torch.inf).flatten(1)
    most = _TRACED_MAXIMA
    if not torch.compiler.is_compiling():
        count = int(is_highest.flatten(1).sum(1).max())
        most = min(max(count, 1), _MOST_MAXIMA)
    found, index = score.topk(min(most, score.shape[1]), dim=1)
    _, n2, n3 = field.shape[-3:]
    place = torch.stack([index // (n2 * n3), index // n3 % n2, index % n3], dim=2)
    return Maxima(place, found.isfinite())


def parabola(field: Tensor, place: Tensor) -> Parabola:
    """Return the parabola through the 27 points of a field [B, n1, n2, n3] around grid points [B, M, 3]."""
    cube = _cube(field, place)
    return Parabola(cube[..., 1, 1, 1], *_derivatives(cube))


def _cube(field: Tensor, place: Tensor) -> Tensor:
    """Return the values [B, M, 3, 3, 3] of a field [B, n1, n2, n3] around grid points [B, M, 3]."""
    _, n2, n3 = field.shape[-3:]
    offsets = torch.cartesian_prod(*[torch.arange(-1, 2, device=place.device)] * 3)
    x, y, z = ((place[:, :, None] + offsets) % grid_of(field)).unbind(-1)
    neighbours = (x * n2 + y) * n3 + z
    values = field.flatten(1).gather(1, neighbours.flatten(1))
    return values.view(*place.shape[:2], 3, 3, 3)


def _derivatives(cube: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient [..., 3] and second derivatives [..., 3, 3], in grid steps, amid values [..., 3, 3, 3]."""
    middle = cube[..., 1, 1, 1]

    def value(steps: dict[int, int]) -> Tensor:
        i, j, k = (1 + steps.get(axis, 0) for axis in range(3))
        return cube[..., i, j, k]

    slope = torch.stack([(value({a: 1}) - value({a: -1})) / 2 for a in range(3)], dim=-1)
    rows = []
    for a in range(3):
        row = []
        for b in range(3):
            if a == b:
                row.append(value({a: 1}) + value({a: -1}) - 2 * middle)
            else:
                same = value({a: 1, b: 1}) + value({a: -1, b: -1})
                row.append((same - value({a: 1, b: -1}) - value({a: -1, b: 1})) / 4)
        rows.append(torch.stack(row, dim=-1))
    return slope, torch.stack(rows, dim=-2)
