"""Differential fields of a periodic density, exact in reciprocal space with the true metric.

    density             rho, e/Å^3
    gradient            |grad rho|, e/Å^4
    laplacian           laplacian of rho, e/Å^5
    reduced_gradient    s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)), Perdew et al., doi:10.1103/PhysRevLett.77.3865

Each is a scalar: moving the origin by grid points, reordering or reversing lattice vectors only moves its values.

Fourier transforms and derivatives are products with n x n matrices, axis by axis. At the 32 points of a usual cell
that is as quick as an FFT (on GPUs quicker), and it can be written as ONNX, which has no complex numbers. The highest
frequency of an even grid has no sign, hence no derivative and no phase: derivatives and low-passes drop it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from taskgroup.models.fourier import along, sampled, wave_vectors, waves
from taskgroup.models.lattice import reciprocal

_S_FACTOR = 2 * (3 * math.pi**2) ** (1 / 3)
# e/Å^3; where there is less density, the reduced gradient is noise.
_LEAST_DENSITY = 1e-3
_MOST_S = 20.0
# Sizes of the fields around valence electrons, a fixed choice that brings channels to the order of 1 once scaled.
_UNITS = {"density": 0.5, "gradient": 1.0, "laplacian": 5.0, "reduced_gradient": 1.0}
# Exponents below this give nothing but denormal numbers, at which processors are slow.
_VANISHING = -30


def density_fields(
    density: Tensor, lattice: Tensor, names: Sequence[str], widths: Sequence[float]
) -> Tensor:
    """Return fields [B, (1 + widths) * names * C, n1, n2, n3] of densities [B, C, n1, n2, n3] (e/Å^3).

    ``lattice`` [B, 3, 3] are their cells (Å). First fields of the density as it is, then of the density low-passed with
    an isotropic Gaussian of each width (Å) in turn, which keeps its charge. In units of about a valence electron's;
    ``scale_values`` comes next.
    """
    inverse = reciprocal(lattice)
    densities = [density]
    if widths:
        densities += low_passes(density, inverse, widths)
    fields = []
    for rho in densities:
        by_name = _fields(rho, inverse, names)
        fields += [by_name[name] / _UNITS[name] for name in names]
    return torch.cat(fields, dim=1)


def _fields(rho: Tensor, inverse: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Return at least the named fields of one density."""
    fields = {"density": rho}
    if set(names) == {"density"}:
        return fields
    gradient = cartesian_gradient(rho, inverse)
    slope = gradient.square().sum(1).sqrt()
    fields["gradient"] = slope
    if "laplacian" in names:
        fields["laplacian"] = divergence(gradient, inverse)
    if "reduced_gradient" in names:
        # of a magnetisation too it is measured by the total density
        total = rho[:, :1].clamp_min(_LEAST_DENSITY)
        fields["reduced_gradient"] = (slope / (_S_FACTOR * total ** (4 / 3))).clamp_max(_MOST_S)
    return fields


def low_passes(
    density: Tensor, inverse: Tensor, widths: Sequence[float], finer: float = 1.0
) -> list[Tensor]:
    """Return densities [B, C, n1, n2, n3] convolved with isotropic Gaussians of these widths (Å).

    ``inverse`` [B, 3, 3] is the ``reciprocal`` of their cells. With ``finer`` above 1 the Fourier series are evaluated
    on a finer grid, of so many times the points along each axis (rounded up).
    """
    real, imaginary = waves(density)
    square = wave_vectors(density.shape[2:], inverse).square().sum(1, keepdim=True)
    points = [math.ceil(n * finer) for n in density.shape[2:]]
    smoothed = []
    for width in widths:
        exponent = -0.5 * width**2 * square
        gain = torch.exp(exponent) * (exponent > _VANISHING)
        smoothed.append(sampled((real * gain, imaginary * gain), points))
    return smoothed


def on_finer_grid(values: Tensor, points: Sequence[int]) -> Tensor:
    """Return periodic values [B, C, n1, n2, n3] at so many ``points`` along each axis, no fewer than there are.

    The Fourier series is evaluated, so nothing is interpolated. An axis that has so many points already stays as it is.
    """
    for axis, n in zip((2, 3, 4), points, strict=True):
        if values.shape[axis] != n:
            values = along(values, _series_matrix(values.shape[axis], n, values), axis)
    return values


def _series_matrix(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix [new, old] from values at i/old to the Fourier series through them at j/new."""
    places = torch.arange(new, dtype=torch.float64, device=like.device) / new
    steps = torch.arange(old, dtype=torch.float64, device=like.device) / old
    frequency = torch.arange(1, (old + 1) // 2, dtype=torch.float64, device=like.device)
    angle = 2 * math.pi * (places[:, None] - steps)
    matrix = (1 + 2 * torch.cos(angle[..., None] * frequency).sum(-1)) / old
    return matrix.to(like.dtype)


def cartesian_gradient(values: Tensor, inverse: Tensor) -> Tensor:
    """Return the gradient [B, 3, C, n1, n2, n3] (per Å) of periodic values [B, C, n1, n2, n3]."""
    along_axes = [_slope(values, axis) for axis in (2, 3, 4)]
    fractional = torch.stack(along_axes, dim=1)
    return (inverse @ fractional.flatten(2)).view_as(fractional)


def divergence(vectors: Tensor, inverse: Tensor) -> Tensor:
    """Return the divergence [B, C, n1, n2, n3] (per Å) of a periodic vector field [B, 3, C, n1, n2, n3]."""
    fractional = (inverse.transpose(1, 2) @ vectors.flatten(2)).view_as(vectors)
    x, y, z = (_slope(fractional[:, axis], axis + 2) for axis in range(3))
    return x + y + z


def _slope(values: Tensor, axis: int) -> Tensor:
    """Return the derivative of periodic values along one of the axes 2, 3, 4, in fractional coordinates."""
    return along(values, derivative_matrix(values.shape[axis], values), axis)


def derivative_matrix(n: int, like: Tensor) -> Tensor:
    """Return the matrix [n, n] that takes values at i/n to their derivative there.

    It is exact for what a grid of n points can hold; type and device are those of ``like``.
    """
    steps = torch.arange(n, dtype=torch.float64, device=like.device)
    frequency = torch.arange(1, (n + 1) // 2, dtype=torch.float64, device=like.device)
    apart = steps[:, None] - steps
    angle = 2 * math.pi / n * (apart[..., None] * frequency)
    matrix = -4 * math.pi / n * (frequency * torch.sin(angle)).sum(-1)
    return matrix.to(like.dtype)


def scale_values(fields: Tensor, scaling: str) -> Tensor:
    """Bring core and valence to one scale, sign kept: ``cbrt`` cube root, ``log`` sign(x) log(1 + abs(x)), ``none``."""
    if scaling == "cbrt":
        # the clamp keeps the slope finite
        return fields.sign() * fields.abs().clamp_min(1e-12) ** (1 / 3)
    if scaling == "log":
        return fields.sign() * torch.log1p(fields.abs())
    return fields
