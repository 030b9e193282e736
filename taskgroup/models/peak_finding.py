"""The peaks of a density, which are its atoms, and what the density looks like around each of them.

A peak is a local maximum of the density, found between grid points by a parabola through the logarithm of its 27
neighbours (exact for a Gaussian). Around it the density is interpolated on spheres and expanded in spherical harmonics;
kept are, for each radius, the mean and the power of every order l (as in Bartók et al., doi:10.1103/PhysRevB.87.184115,
with the density itself in the place of the neighbours' Gaussians). Nothing here is told which element sits where: the
height and the shape of a peak say so. Invariant to origin, orientation, cell and order of the atoms, as far as
interpolation goes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from taskgroup.models.fields import low_passes
from taskgroup.models.lattice import reciprocal

RADII = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5, 3.0, 3.5, 4.0, 5.0)  # Å
# Far spheres have the same number of points, so they see a smoother density: width (Å) of a further Gaussian, number of
# radii that look at it. Else atoms fall between their points and the numbers depend on the orientation.
SMOOTHED = ((0.0, 6), (0.35, 4), (0.8, 5))
NEAR = 7  # radii that see the atom itself more than what surrounds it
ORDERS = 4  # largest l
MOST_PEAKS = 48  # the highest are kept
_CANDIDATES = 64
_LEAST_DENSITY = 1e-4  # e/Å^3
_LEAST_HEIGHT = 0.02  # e/Å^3
_LEAST_SHARE = (
    0.003  # of the highest peak: less lies between atoms; hydrogen beside gold has just more
)
_SAME = 0.45  # Å; maxima closer than this are one
# Curvatures of the logarithm at a peak. Waves of a coarse grid are sharper than atoms: than the highest by a third, and
# than a point seen through the low-pass of 0.20 Å (3 / s^2, 1/Å^2). Bumps between atoms are flatter.
_SHARPER, _SHARPEST = 1.33, 75.0
_FLATTER, _FLATTEST = 0.12, 8.5
_EXACT = 15
_CHUNK = 64  # peaks interpolated at a time


def n_columns(channels: int) -> int:
    """Columns of a peak: whether it is there, height, curvature; profiles of the density; means of magnetisation."""
    return 3 + len(RADII) * (1 + ORDERS) + (channels - 1) * (1 + len(RADII))


class Peaks(NamedTuple):
    """Where the peaks of densities are: K = ``MOST_PEAKS`` places for each of B crystals, the highest first.

    ``at`` [B, K, 3] fractional; ``height`` [B, K], the logarithm of the density there; ``curvature`` [B, K], the
    Laplacian of the logarithm, 1/Å^2 (of a Gaussian of width s, -3 / s^2); ``present`` [B, K], whether there is one:
    places without one are the last.
    """

    at: Tensor
    height: Tensor
    curvature: Tensor
    present: Tensor


def peak_table(density: Tensor, lattice: Tensor, peaks: Peaks) -> Tensor:
    """What the peaks of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å) look like: [B, K, columns].

    Columns are of the order of 1: present (1 or 0), logarithm of the height, curvature of the logarithm; then for each
    radius the cube root of the mean density on the sphere, and for each order l from 1 the norm of the coefficients of
    the density's cube root; then, of a magnetisation, its signed cube roots at the peak and on the spheres. Rows
    without a peak are zero.
    """
    at, height, curvature, present = peaks
    n = density.shape[-1]
    inverse = reciprocal(lattice.float())
    blurred = low_passes(density.float(), inverse, [width for width, _ in SMOOTHED if width])
    coefficients = [
        _spline_coefficients(_logarithm(field)) for field in (density.float(), *blurred)
    ]
    spheres = torch.tensor(RADII)[:, None, None] * torch.tensor(_rule()[0], dtype=torch.float32)
    steps = spheres.to(density.device).split([count for _, count in SMOOTHED])

    def around(rows: Tensor, centre: Tensor) -> Tensor:
        here = _interpolated(coefficients[0], rows, centre)
        further = [
            _interpolated(spline, rows, centre + step.flatten(0, 1) @ (inverse[rows] * n))
            for spline, step in zip(coefficients, steps, strict=True)
        ]
        return _profiles(torch.cat([here, *further], dim=1))

    head = torch.stack(
        [torch.ones_like(height), (height - 3) / 1.5, curvature / 15 + 3], dim=2
    ).float()
    centres = (at * n).float()
    if torch.compiler.is_compiling():  # a traced program may not depend on how many there are
        rows = torch.arange(at.shape[0], device=at.device)[:, None].expand(present.shape).flatten()
        profiles = around(rows, centres.flatten(0, 1)[:, None]).unflatten(0, present.shape)
        return torch.cat([head, profiles], dim=2) * present[..., None]
    table = density.new_zeros(*present.shape, n_columns(density.shape[1]))
    which, slot = present.nonzero(as_tuple=True)
    for start in range(0, len(which), _CHUNK):
        rows, chosen = which[start : start + _CHUNK], slot[start : start + _CHUNK]
        profiles = around(rows, centres[rows, chosen][:, None])
        table[rows, chosen] = torch.cat([head[rows, chosen], profiles], dim=1).to(table)
    return table


def _logarithm(density: Tensor) -> Tensor:
    """The density [B, C, N, N, N] with the logarithm of its first channel."""
    return torch.cat([density[:, :1].clamp_min(_LEAST_DENSITY).log(), density[:, 1:]], dim=1)


def find_peaks(density: Tensor, lattice: Tensor) -> Peaks:
    """The peaks of densities [B, C, N, N, N] (e/Å^3; the first channel's) in cells [B, 3, 3] (Å)."""
    logarithm, lattice = _logarithm(density)[:, 0].double(), lattice.double()
    n = logarithm.shape[-1]
    wrapped = nn.functional.pad(logarithm[:, None], (1,) * 6, mode="circular")
    highest = nn.functional.max_pool3d(wrapped, 3, stride=1)[:, 0]
    score = torch.where(logarithm >= highest - 1e-9, logarithm, -torch.inf).flatten(1)
    found, index = score.topk(min(_CANDIDATES, n**3), dim=1)
    place = torch.stack([index // (n * n), index // n % n, index % n], dim=2)
    offsets = torch.cartesian_prod(*[torch.arange(-1, 2, device=index.device)] * 3)
    near = (place[:, :, None] + offsets) % n
    flat = (near[..., 0] * n + near[..., 1]) * n + near[..., 2]
    cube = logarithm.flatten(1).gather(1, flat.flatten(1)).view(*index.shape, 3, 3, 3)
    slope, bend = _derivatives(cube)
    bent = bend - 1e-3 * torch.eye(3).to(bend)  # a plateau has no curvature to divide by
    inverse = reciprocal(bent.flatten(0, 1)).unflatten(0, index.shape)
    shift = -(slope[..., None, :] @ inverse)[..., 0, :].clamp(-0.75, 0.75)
    height = (
        cube[..., 1, 1, 1]
        + (slope * shift).sum(-1)
        + 0.5 * (shift[..., None, :] @ bend @ shift[..., None]).flatten(2)[..., 0]
    )
    inverse = (reciprocal(lattice) * n)[:, None]
    curvature = (inverse @ bend @ inverse.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1).sum(-1)
    at = place + shift
    order = torch.where(found.isfinite(), height, -torch.inf).argsort(dim=1, descending=True)[
        :, :MOST_PEAKS
    ]
    at, height, curvature = (
        at.gather(1, order[..., None].expand(-1, -1, 3)),
        height.gather(1, order),
        curvature.gather(1, order),
    )
    highest = curvature[:, :1].clamp_max(-1e-6)
    sharpest = (_SHARPER * highest).clamp_max(-_SHARPEST)
    flattest = (_FLATTER * highest).clamp_max(-_FLATTEST)
    floor = (height[:, :1] + math.log(_LEAST_SHARE)).clamp_min(math.log(_LEAST_HEIGHT))
    likely = (curvature > sharpest) & (curvature < flattest) & (height > floor)
    likely[:, 0] = True  # there is always one
    likely &= found.isfinite().gather(1, order)
    present = likely & ~_repeats(at / n, lattice, likely)
    slots = present.shape[1]
    first = (present * slots - torch.arange(slots, device=at.device)).topk(slots, dim=1).indices
    at = at.gather(1, first[..., None].expand(-1, -1, 3)) / n
    return Peaks(at, height.gather(1, first), curvature.gather(1, first), present.gather(1, first))


def _derivatives(cube: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [..., 3] and second derivatives [..., 3, 3] in grid steps at the middle of values [..., 3, 3, 3]."""
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


def _repeats(fractional: Tensor, lattice: Tensor, likely: Tensor) -> Tensor:
    """Whether a likely higher peak lies closer than ``_SAME`` (two grid points share one maximum), [B, K]."""
    apart = fractional[:, :, None] - fractional[:, None]
    near = ((apart - apart.round()) @ lattice[:, None]).square().sum(-1) < _SAME**2
    earlier = torch.ones_like(near[0]).tril(-1)
    return (near & earlier & likely[:, None]).any(2)


def _spline_coefficients(fields: Tensor) -> Tensor:
    """Coefficients of the periodic cubic B-spline through values [B, C, N, N, N]."""
    n = fields.shape[-1]
    basis = sum(
        weight * np.roll(np.eye(n), step, 0)
        for step, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6))
    )
    solve = torch.from_numpy(np.linalg.inv(basis)).to(fields)
    fields = fields @ solve.T
    fields = (solve @ fields.flatten(3).unflatten(3, (n, n))).view_as(fields)
    return torch.einsum("xi,bciyz->bcxyz", solve, fields)


def _interpolated(coefficients: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """Values [P, M, C] at points [P, M, 3] of the splines ``rows`` [P] of coefficients [B, C, N, N, N]."""
    n = coefficients.shape[-1]
    channels = coefficients.flatten(2).transpose(1, 2).reshape(-1, coefficients.shape[1])
    floor = points.floor()
    t = points - floor
    weights = torch.stack(
        [
            (1 - t) ** 3 / 6,
            (4 - 6 * t**2 + 3 * t**3) / 6,
            (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
            t**3 / 6,
        ],
        dim=-1,
    )
    index = (floor.long()[..., None] + torch.arange(-1, 3, device=points.device)) % n
    plane = (rows[:, None, None] * n + index[..., 0, :]) * n
    line = (plane[..., :, None] + index[..., None, 1, :]) * n
    cell = line[..., :, None] + index[..., None, None, 2, :]
    weight = torch.einsum(
        "...i,...j,...k->...ijk", weights[..., 0, :], weights[..., 1, :], weights[..., 2, :]
    )
    return (channels[cell.flatten(2)] * weight.flatten(2)[..., None]).sum(2)


def _profiles(values: Tensor) -> Tensor:
    """Columns [P, ...] from log density (and magnetisation) [P, 1 + radii * points, C] at a peak and on its spheres."""
    spheres = values[:, 1:].unflatten(1, (len(RADII), -1))
    weight = torch.tensor(_rule()[1]).to(values)
    rho = spheres[..., 0].exp()
    mean = (rho * weight).sum(-1) ** (1 / 3)
    coefficients = torch.einsum(
        "prs,ms,s->prm", rho ** (1 / 3), torch.tensor(_harmonics()).to(values), weight
    )
    powers = [
        coefficients[..., l * l : (l + 1) ** 2].square().sum(-1).sqrt()
        for l in range(1, ORDERS + 1)  # noqa: E741
    ]
    parts = [mean, *powers]
    for channel in range(1, values.shape[-1]):
        spin = torch.cat([values[:, :1, channel], (spheres[..., channel] * weight).sum(-1)], dim=1)
        parts.append(spin.sign() * spin.abs().clamp_min(1e-12) ** (1 / 3))
    return torch.cat(parts, dim=1)


def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Directions [S, 3] and weights [S] (sum 1) that integrate polynomials of order ``_EXACT`` on the sphere."""
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(_EXACT)
    return points.T, weights / (4 * math.pi)


def _harmonics() -> np.ndarray:
    """Real spherical harmonics [(ORDERS + 1)^2, S] with mean square 1, by order."""
    from scipy.special import sph_harm_y

    x, y, z = _rule()[0].T
    polar, azimuth = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
    rows = []
    for l in range(ORDERS + 1):  # noqa: E741
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), polar, azimuth) * math.sqrt(4 * math.pi)
            rows.append(
                value.real if m == 0 else math.sqrt(2) * (value.imag if m < 0 else value.real)
            )
    return np.array(rows)
