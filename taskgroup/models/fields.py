"""Differential fields of a periodic density, exact in reciprocal space with the true metric.

    density             rho, e/Å^3
    gradient            |grad rho|, e/Å^4
    laplacian           laplacian of rho, e/Å^5
    reduced_gradient    s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)), Perdew et al., doi:10.1103/PhysRevLett.77.3865

Each is a scalar: moving the origin by grid points, reordering or reversing lattice vectors only moves its values.

Fourier transforms and derivatives are products with n x n matrices, axis by axis. At the 32 points of a stored density
that is as quick as an FFT (on GPUs quicker), and it can be written as ONNX, which has no complex numbers. The highest
frequency of an even grid has no sign, hence no derivative and no phase: derivatives and low-passes drop it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
    """Return fields [B, (1 + widths) * names * C, N, N, N] of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å).

    First of the density as it is, then of the density low-passed with an isotropic Gaussian of each width (Å) in turn,
    which keeps its charge. In units of about a valence electron's; ``scale_values`` comes next.
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


def low_passes(density: Tensor, inverse: Tensor, widths: Sequence[float]) -> list[Tensor]:
    """Return densities [B, C, N, N, N] convolved with isotropic Gaussians of these widths (Å).

    ``inverse`` [B, 3, 3] is the ``reciprocal`` of their cells.
    """
    n = density.shape[-1]
    frequency = _signed_frequencies(n, density)
    square = _squared_wave_vectors(frequency, inverse)
    has_sign = torch.ones_like(frequency)
    if n % 2 == 0:
        has_sign[n // 2] = 0.0
    mask = has_sign[:, None, None] * has_sign[:, None] * has_sign
    cosine, sine = _fourier_matrices(n, density)
    real, imaginary = _transform(density, torch.zeros_like(density), cosine, -sine)
    smoothed = []
    for width in widths:
        exponent = -0.5 * width**2 * square
        gain = mask * torch.exp(exponent) * (exponent > _VANISHING)
        gain = gain.unsqueeze(1)
        back, _ = _transform(real * gain, imaginary * gain, cosine / n, sine / n)
        smoothed.append(back)
    return smoothed


def cartesian_gradient(values: Tensor, inverse: Tensor) -> Tensor:
    """Return the gradient [B, 3, C, n, n, n] (per Å) of periodic values [B, C, n, n, n]."""
    slopes = derivative_matrix(values.shape[-1], values)
    fractional = torch.stack([_along(values, slopes, axis) for axis in (2, 3, 4)], dim=1)
    return (inverse @ fractional.flatten(2)).view_as(fractional)


def divergence(vectors: Tensor, inverse: Tensor) -> Tensor:
    """Return the divergence [B, C, n, n, n] (per Å) of a periodic vector field [B, 3, C, n, n, n]."""
    slopes = derivative_matrix(vectors.shape[-1], vectors)
    fractional = (inverse.transpose(1, 2) @ vectors.flatten(2)).view_as(vectors)
    x, y, z = (_along(fractional[:, axis], slopes, axis + 2) for axis in range(3))
    return x + y + z


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


def _signed_frequencies(n: int, like: Tensor) -> Tensor:
    """Return the frequencies [n] of a Fourier transform over n points: 0, 1, ..., -2, -1."""
    index = torch.arange(n, device=like.device)
    return torch.where(index < (n + 1) // 2, index, index - n).to(like.dtype)


def _squared_wave_vectors(frequency: Tensor, inverse: Tensor) -> Tensor:
    """Return squared lengths [B, n, n, n] (1/Å^2) of the wave vectors of all frequencies [n]."""
    n = len(frequency)
    # of the reciprocal vectors, [B, 3, 3]
    metric = inverse.transpose(1, 2) @ inverse
    points = torch.stack(torch.meshgrid(frequency, frequency, frequency, indexing="ij"))
    points = points.flatten(1)
    square = (points * (metric @ points)).sum(1)
    return square.unflatten(1, (n, n, n)) * (2 * math.pi) ** 2


def _fourier_matrices(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine [n, n] of 2 pi i j / n."""
    index = torch.arange(n, device=like.device)
    # whole periods are dropped while numbers are whole
    angle = (2 * math.pi / n) * (index[:, None] * index % n).to(torch.float64)
    return torch.cos(angle).to(like.dtype), torch.sin(angle).to(like.dtype)


def _transform(
    real: Tensor, imaginary: Tensor, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor]:
    """Multiply complex values by the complex matrix cosine + i sine along each of the last three axes."""
    for axis in (2, 3, 4):
        new_real = _along(real, cosine, axis) - _along(imaginary, sine, axis)
        imaginary = _along(real, sine, axis) + _along(imaginary, cosine, axis)
        real = new_real
    return real, imaginary


def _along(values: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return the matrix applied along one of the axes 2, 3, 4; written so that no copy is made."""
    if axis == 4:
        return values @ matrix.T
    return (matrix @ values.flatten(axis + 1)).view_as(values)
