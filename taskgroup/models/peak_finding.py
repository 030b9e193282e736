"""The peaks of a density, which are its atoms.

A peak is a local maximum of the density, found between grid points by a parabola through the logarithm of its 27
neighbours (exact for a Gaussian). Nothing here is told which element sits where. Invariant to origin, orientation, cell
and order of the atoms, as far as interpolation goes.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from taskgroup.models.lattice import reciprocal

MOST_PEAKS = 48
"""Places for peaks of a crystal; the highest ones are kept."""
LEAST_DENSITY = 1e-4
"""e/Å^3 below which the logarithm of a density is cut off."""


@dataclass(frozen=True)
class PeakRules:
    """Limits that tell atoms from other maxima of a density.

    Curvatures are Laplacians of the logarithm at a maximum, 1/Å^2; they are negative, and of a Gaussian of width s they
    are -3 / s^2.
    """

    # Maxima on the grid that are looked at, the highest ones.
    candidates: int = 64
    # Neighbours count as equal to a maximum up to this difference of logarithms: rounding.
    equal: float = 1e-9
    # Added to second derivatives: a plateau has none to divide by.
    plateau: float = 1e-3
    # Farthest a maximum may lie from its grid point, in grid steps; beyond, another point is nearer.
    farthest: float = 0.75
    # e/Å^3; lower maxima are no atoms.
    least_height: float = 0.02
    # Least height as a share of the highest one. Less lies between atoms; hydrogen beside gold has just more.
    least_share: float = 0.003
    # Maxima closer than this (Å) are one: two grid points share it.
    same: float = 0.45
    # Waves of a coarse grid are sharper than atoms: sharper than the highest peak by a third, ...
    sharper: float = 1.33
    # ... and sharper than a point seen through the stored low-pass of 0.20 Å (3 / 0.2^2).
    sharpest: float = 75.0
    # Bumps between atoms are flatter: by this factor than the highest peak, and than this curvature.
    flatter: float = 0.12
    flattest: float = 8.5


class Peaks(NamedTuple):
    """Where the peaks of densities are: K = ``MOST_PEAKS`` places for each of B crystals, the highest first.

    ``at`` [B, K, 3] fractional; ``height`` [B, K], the logarithm of the density there; ``curvature`` [B, K], the
    Laplacian of the logarithm, 1/Å^2; ``present`` [B, K], whether there is one: places without one are the last.
    """

    at: Tensor
    height: Tensor
    curvature: Tensor
    present: Tensor


class _Maxima(NamedTuple):
    """Local maxima on the grid: ``place`` [B, M, 3] grid points, ``cube`` [B, M, 3, 3, 3] logarithms around each.

    ``is_maximum`` [B, M] is False for places that are left over.
    """

    place: Tensor
    cube: Tensor
    is_maximum: Tensor


def find_peaks(density: Tensor, lattice: Tensor, rules: PeakRules | None = None) -> Peaks:
    """Return the peaks of densities [B, C, N, N, N] (e/Å^3; the first channel's) in cells [B, 3, 3] (Å)."""
    rules = rules or PeakRules()
    logarithm = log_density(density)[:, 0].double()
    lattice = lattice.double()
    maxima = _local_maxima(logarithm, rules)
    peaks = _highest(_refine(maxima, lattice, logarithm.shape[-1], rules))
    likely = _plausible(peaks, rules)
    present = likely & ~_repeats(peaks.at, lattice, likely, rules)
    return _present_first(peaks._replace(present=present))


def log_density(density: Tensor) -> Tensor:
    """Return densities [B, C, N, N, N] with the logarithm of the first channel in its place."""
    logarithm = density[:, :1].clamp_min(LEAST_DENSITY).log()
    return torch.cat([logarithm, density[:, 1:]], dim=1)


def _local_maxima(logarithm: Tensor, rules: PeakRules) -> _Maxima:
    """Return the highest points [B, N, N, N] that are not below any of their 26 neighbours."""
    n = logarithm.shape[-1]
    wrapped = nn.functional.pad(logarithm[:, None], (1,) * 6, mode="circular")
    highest_near = nn.functional.max_pool3d(wrapped, 3, stride=1)[:, 0]
    is_highest = logarithm >= highest_near - rules.equal
    score = torch.where(is_highest, logarithm, -torch.inf).flatten(1)
    found, index = score.topk(min(rules.candidates, n**3), dim=1)
    place = torch.stack([index // (n * n), index // n % n, index % n], dim=2)
    offsets = torch.cartesian_prod(*[torch.arange(-1, 2, device=index.device)] * 3)
    x, y, z = ((place[:, :, None] + offsets) % n).unbind(-1)
    neighbours = (x * n + y) * n + z
    values = logarithm.flatten(1).gather(1, neighbours.flatten(1))
    return _Maxima(place, values.view(*index.shape, 3, 3, 3), found.isfinite())


def _refine(maxima: _Maxima, lattice: Tensor, n: int, rules: PeakRules) -> Peaks:
    """Return where the parabola through 27 points has its maximum, and its height and curvature there.

    ``at`` is in grid steps, and ``present`` says which ones are maxima of the grid.
    """
    slope, bend = _derivatives(maxima.cube)
    bent = bend - rules.plateau * torch.eye(3).to(bend)
    inverse = reciprocal(bent.flatten(0, 1)).unflatten(0, bent.shape[:2])
    step = -(slope[..., None, :] @ inverse)[..., 0, :]
    shift = step.clamp(-rules.farthest, rules.farthest)
    quadratic = (shift[..., None, :] @ bend @ shift[..., None]).flatten(2)[..., 0]
    height = maxima.cube[..., 1, 1, 1] + (slope * shift).sum(-1) + 0.5 * quadratic
    # second derivatives along the Cartesian axes, per Å^2
    per_angstrom = (reciprocal(lattice) * n)[:, None]
    cartesian = per_angstrom @ bend @ per_angstrom.transpose(-1, -2)
    curvature = cartesian.diagonal(dim1=-2, dim2=-1).sum(-1)
    return Peaks((maxima.place + shift) / n, height, curvature, maxima.is_maximum)


def _highest(peaks: Peaks) -> Peaks:
    """Return the ``MOST_PEAKS`` highest peaks, in order of height."""
    height = torch.where(peaks.present, peaks.height, -torch.inf)
    return _taken(peaks, height.argsort(dim=1, descending=True)[:, :MOST_PEAKS])


def _plausible(peaks: Peaks, rules: PeakRules) -> Tensor:
    """Return which maxima [B, K] are as sharp and as high as atoms are; the highest one always is."""
    of_highest = peaks.curvature[:, :1].clamp_max(-1e-6)
    sharpest = (rules.sharper * of_highest).clamp_max(-rules.sharpest)
    flattest = (rules.flatter * of_highest).clamp_max(-rules.flattest)
    relative_floor = peaks.height[:, :1] + math.log(rules.least_share)
    floor = relative_floor.clamp_min(math.log(rules.least_height))
    likely = (peaks.curvature > sharpest) & (peaks.curvature < flattest) & (peaks.height > floor)
    # every crystal has an atom
    likely[:, 0] = True
    return likely & peaks.present


def _repeats(fractional: Tensor, lattice: Tensor, likely: Tensor, rules: PeakRules) -> Tensor:
    """Return which peaks [B, K] lie closer than ``rules.same`` to a likely higher one."""
    apart = fractional[:, :, None] - fractional[:, None]
    nearest_image = apart - apart.round()
    squared_distance = (nearest_image @ lattice[:, None]).square().sum(-1)
    is_near = squared_distance < rules.same**2
    is_higher = torch.ones_like(is_near[0]).tril(-1)
    return (is_near & is_higher & likely[:, None]).any(2)


def _present_first(peaks: Peaks) -> Peaks:
    """Return the peaks with places without one last, the order kept."""
    places = peaks.present.shape[1]
    rank = peaks.present * places - torch.arange(places, device=peaks.at.device)
    return _taken(peaks, rank.topk(places, dim=1).indices)


def _taken(peaks: Peaks, order: Tensor) -> Peaks:
    """Return the peaks of these places [B, K]."""
    return Peaks(
        peaks.at.gather(1, order[..., None].expand(-1, -1, 3)),
        peaks.height.gather(1, order),
        peaks.curvature.gather(1, order),
        peaks.present.gather(1, order),
    )


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
