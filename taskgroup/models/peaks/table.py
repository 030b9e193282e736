"""Columns that say what a density looks like around its peaks.

Around a peak the density is interpolated on spheres and expanded in spherical harmonics. Kept are, for each radius, the
mean and the power of every order l (as in Bartók et al., doi:10.1103/PhysRevB.87.184115, with the density itself in the
place of the neighbours' Gaussians). Height and shape of a peak say which element it is.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from taskgroup.models.fields import low_passes
from taskgroup.models.lattice import reciprocal
from taskgroup.models.peaks.finding import Peaks, log_density
from taskgroup.models.peaks.maxima import grid_of

RADII = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.2, 1.5, 1.8, 2.1, 2.5, 3.0, 3.5, 4.0, 5.0)
"""Radii of the spheres, Å."""
SMOOTHED = ((0.0, 6), (0.35, 4), (0.8, 5))
"""Width (Å) of a further Gaussian, and the number of radii that look at the density through it.

Far spheres have as many points as near ones, so they look at a smoother density. Else atoms would fall between their
points, and the numbers would depend on the orientation.
"""
NEAR = 7
"""Radii that see the atom itself more than what surrounds it."""
ORDERS = 4
"""Largest order l of the spherical harmonics."""

# Order of the polynomials that the points on a sphere integrate exactly.
_EXACT = 23
# Peaks interpolated at a time.
_CHUNK = 64
# Columns before those of the spheres: present, height, curvature.
_N_HEAD = 3


def n_columns(channels: int) -> int:
    """Return the number of columns of a peak: head, profiles of the density, means of a magnetisation."""
    n_density = len(RADII) * (1 + ORDERS)
    n_magnetisation = 1 + len(RADII)
    return _N_HEAD + n_density + (channels - 1) * n_magnetisation


def peak_table(density: Tensor, lattice: Tensor, peaks: Peaks) -> Tensor:
    """Return what the peaks of densities [B, C, n1, n2, n3] (e/Å^3) in cells [B, 3, 3] (Å) look like: [B, K, columns].

    Columns are of the order of 1: present (1 or 0), logarithm of the height, curvature of the logarithm; then for each
    radius the cube root of the mean density on the sphere, and for each order l from 1 the norm of the coefficients of
    the density's cube root; then, of a magnetisation, its signed cube roots at the peak and on the spheres. Rows
    without a peak are zero.
    """
    at, height, curvature, present = peaks
    surroundings = _Surroundings(density, lattice)
    head = torch.stack([torch.ones_like(height), (height - 3) / 1.5, curvature / 15 + 3], dim=2)
    head = head.float()
    centres = (at * grid_of(density)).float()
    if torch.compiler.is_compiling():
        # a traced program may not depend on how many there are: all places are computed
        owner = torch.arange(at.shape[0], device=at.device)[:, None].expand(present.shape).flatten()
        profiles = surroundings.profiles(owner, centres.flatten(0, 1)[:, None])
        table = torch.cat([head, profiles.unflatten(0, present.shape)], dim=2)
        return table * present[..., None]
    table = density.new_zeros(*present.shape, n_columns(density.shape[1]))
    owners, slots = present.nonzero(as_tuple=True)
    for start in range(0, len(owners), _CHUNK):
        rows, places = owners[start : start + _CHUNK], slots[start : start + _CHUNK]
        profiles = surroundings.profiles(rows, centres[rows, places][:, None])
        table[rows, places] = torch.cat([head[rows, places], profiles], dim=1).to(table)
    return table


class _Surroundings:
    """Splines of densities [B, C, n1, n2, n3], smoothed for far spheres, and the spheres' points."""

    def __init__(self, density: Tensor, lattice: Tensor) -> None:
        self.grid = grid_of(density)
        self.inverse = reciprocal(lattice.float())
        widths = [width for width, _ in SMOOTHED if width]
        smoothed = [density.float(), *low_passes(density.float(), self.inverse, widths)]
        self.splines = [_spline_coefficients(log_density(field)) for field in smoothed]
        directions = torch.tensor(_sphere_rule()[0], dtype=torch.float32)
        spheres = torch.tensor(RADII)[:, None, None] * directions
        counts = [count for _, count in SMOOTHED]
        self.steps = spheres.to(density.device).split(counts)

    def profiles(self, rows: Tensor, centres: Tensor) -> Tensor:
        """Return the columns of the spheres [P, ...] around centres [P, 1, 3] (grid steps) in crystals ``rows`` [P]."""
        values = [_interpolated(self.splines[0], rows, centres)]
        steps_per_angstrom = self.inverse[rows] * self.grid
        for spline, steps in zip(self.splines, self.steps, strict=True):
            points = centres + steps.flatten(0, 1) @ steps_per_angstrom
            values.append(_interpolated(spline, rows, points))
        return _profiles(torch.cat(values, dim=1))


def _spline_coefficients(fields: Tensor) -> Tensor:
    """Return coefficients of the periodic cubic B-spline through values [B, C, n1, n2, n3]."""
    first, second, third = (_spline_matrix(n).to(fields) for n in fields.shape[2:])
    fields = fields @ third.T
    fields = second @ fields
    return torch.einsum("xi,bciyz->bcxyz", first, fields)


def _spline_matrix(n: int) -> Tensor:
    """Return the matrix [n, n] from values to the coefficients of their periodic cubic B-spline."""
    # values are sums of the coefficients at a point and its two neighbours along each axis
    basis = np.zeros((n, n))
    for step, weight in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        basis = basis + weight * np.roll(np.eye(n), step, 0)
    return torch.from_numpy(np.linalg.inv(basis))


def _interpolated(coefficients: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """Return values [P, M, C] at points [P, M, 3] of the splines ``rows`` [P] of coefficients [B, C, n1, n2, n3]."""
    n1, n2, n3 = coefficients.shape[2:]
    # all grid points of all splines below each other: a grid point is one row
    grid_points = coefficients.flatten(2).transpose(1, 2).reshape(-1, coefficients.shape[1])
    floor = points.floor()
    weights = _spline_weights(points - floor)
    index = floor.long()[..., None] + torch.arange(-1, 3, device=points.device)
    x, y, z = (index % grid_of(coefficients)[:, None]).unbind(-2)
    plane = (rows[:, None, None] * n1 + x) * n2
    line = (plane[..., :, None] + y[..., None, :]) * n3
    number = line[..., :, None] + z[..., None, None, :]
    along_axes = weights[..., 0, :], weights[..., 1, :], weights[..., 2, :]
    weight = torch.einsum("...i,...j,...k->...ijk", *along_axes)
    return (grid_points[number.flatten(2)] * weight.flatten(2)[..., None]).sum(2)


def _spline_weights(t: Tensor) -> Tensor:
    """Return the weights [..., 4] of the four nearest coefficients at fractions [...] of a step."""
    weights = [
        (1 - t) ** 3 / 6,
        (4 - 6 * t**2 + 3 * t**3) / 6,
        (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6,
        t**3 / 6,
    ]
    return torch.stack(weights, dim=-1)


def _profiles(values: Tensor) -> Tensor:
    """Return columns [P, ...] of log density (and magnetisation) [P, 1 + radii * points, C], first at the peak."""
    spheres = values[:, 1:].unflatten(1, (len(RADII), -1))
    weight = torch.tensor(_sphere_rule()[1]).to(values)
    harmonics = torch.tensor(_harmonics()).to(values)
    rho = spheres[..., 0].exp()
    parts = [(rho * weight).sum(-1) ** (1 / 3)]
    coefficients = torch.einsum("prs,ms,s->prm", rho ** (1 / 3), harmonics, weight)
    for order in range(1, ORDERS + 1):
        of_order = coefficients[..., order * order : (order + 1) ** 2]
        parts.append(of_order.square().sum(-1).sqrt())
    for channel in range(1, values.shape[-1]):
        means = (spheres[..., channel] * weight).sum(-1)
        spin = torch.cat([values[:, :1, channel], means], dim=1)
        # the clamp keeps the cube root's slope finite
        parts.append(spin.sign() * spin.abs().clamp_min(1e-12) ** (1 / 3))
    return torch.cat(parts, dim=1)


@cache
def _sphere_rule() -> tuple[np.ndarray, np.ndarray]:
    """Return directions [S, 3] and weights [S] (sum 1) that integrate polynomials of order ``_EXACT`` on the sphere."""
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(_EXACT)
    return points.T, weights / (4 * math.pi)


@cache
def _harmonics() -> np.ndarray:
    """Return real spherical harmonics [(ORDERS + 1)^2, S] with mean square 1 at the points of the sphere, by order."""
    from scipy.special import sph_harm_y

    x, y, z = _sphere_rule()[0].T
    polar = np.arccos(np.clip(z, -1, 1))
    azimuth = np.arctan2(y, x)
    rows = []
    for order in range(ORDERS + 1):
        for m in range(-order, order + 1):
            value = sph_harm_y(order, abs(m), polar, azimuth) * math.sqrt(4 * math.pi)
            if m == 0:
                rows.append(value.real)
            elif m < 0:
                rows.append(math.sqrt(2) * value.imag)
            else:
                rows.append(math.sqrt(2) * value.real)
    return np.array(rows)
