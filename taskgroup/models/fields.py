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
_LEAST_DENSITY = 1e-3  # e/Å^3; where there is less, s is noise
_MOST_S = 20.0
# Sizes of the fields around valence electrons, a fixed choice that brings channels to the order of 1 once scaled.
_UNITS = {"density": 0.5, "gradient": 1.0, "laplacian": 5.0, "reduced_gradient": 1.0}


def density_fields(
    density: Tensor, lattice: Tensor, names: Sequence[str], widths: Sequence[float]
) -> Tensor:
    """Fields [B, (1 + widths) * names * C, N, N, N] of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å).

    First of the density as it is, then of the density low-passed with an isotropic Gaussian of each width (Å) in turn,
    which keeps its charge. In units of about a valence electron's; ``scale_values`` comes next.
    """
    inverse = reciprocal(lattice)
    smooth = [density, *low_passes(density, inverse, widths)] if widths else [density]
    return torch.cat(
        [field / _UNITS[name] for rho in smooth for name, field in _fields(rho, inverse, names)],
        dim=1,
    )


def _fields(rho: Tensor, inverse: Tensor, names: Sequence[str]) -> list[tuple[str, Tensor]]:
    found = {"density": rho}
    if set(names) - {"density"}:
        gradient = cartesian_gradient(rho, inverse)
        size = gradient.square().sum(1).sqrt()
        found["gradient"] = size
        if "laplacian" in names:
            found["laplacian"] = divergence(gradient, inverse)
        if "reduced_gradient" in names:  # of a magnetisation too: measured by the total density
            total = rho[:, :1].clamp_min(_LEAST_DENSITY)
            found["reduced_gradient"] = (size / (_S_FACTOR * total ** (4 / 3))).clamp_max(_MOST_S)
    return [(name, found[name]) for name in names]


def low_passes(density: Tensor, inverse: Tensor, widths: Sequence[float]) -> list[Tensor]:
    """Densities [B, C, N, N, N] convolved with isotropic Gaussians of these widths (Å), in cells of this inverse."""
    n = density.shape[-1]
    index = _signed_frequencies(n, density)
    kept = torch.ones_like(index)
    if n % 2 == 0:
        kept[n // 2] = 0.0
    metric = inverse.transpose(1, 2) @ inverse  # of the reciprocal vectors, [B, 3, 3]
    points = torch.stack(torch.meshgrid(index, index, index, indexing="ij")).flatten(1)
    square = (points * (metric @ points)).sum(1).unflatten(1, (n, n, n)) * (2 * math.pi) ** 2
    mask = kept[:, None, None] * kept[:, None] * kept
    cosine, sine = _fourier_matrices(n, density)
    real, imaginary = _transform(density, torch.zeros_like(density), cosine, -sine)
    found = []
    for width in widths:
        exponent = -0.5 * width**2 * square
        gain = (mask * torch.exp(exponent) * (exponent > -30)).unsqueeze(
            1
        )  # less would only make slow denormals
        found.append(_transform(real * gain, imaginary * gain, cosine / n, sine / n)[0])
    return found


def cartesian_gradient(values: Tensor, inverse: Tensor) -> Tensor:
    """Gradient [B, 3, C, n, n, n] (per Å) of periodic values [B, C, n, n, n]."""
    slopes = derivative_matrix(values.shape[-1], values)
    fractional = torch.stack([_along(values, slopes, axis) for axis in (2, 3, 4)], dim=1)
    return (inverse @ fractional.flatten(2)).view_as(fractional)


def divergence(vectors: Tensor, inverse: Tensor) -> Tensor:
    """Divergence [B, C, n, n, n] (per Å) of a periodic vector field [B, 3, C, n, n, n]."""
    slopes = derivative_matrix(vectors.shape[-1], vectors)
    fractional = (inverse.transpose(1, 2) @ vectors.flatten(2)).view_as(vectors)
    return sum(_along(fractional[:, axis], slopes, axis + 2) for axis in range(3))


def derivative_matrix(n: int, like: Tensor) -> Tensor:
    """The matrix [n, n] that takes values at i/n to their derivative there, exact for what a grid of n can hold."""
    steps = torch.arange(n, dtype=torch.float64, device=like.device)
    frequency = torch.arange(1, (n + 1) // 2, dtype=torch.float64, device=like.device)
    angle = 2 * math.pi / n * ((steps[:, None] - steps)[..., None] * frequency)
    return (-4 * math.pi / n * (frequency * torch.sin(angle)).sum(-1)).to(like.dtype)


def scale_values(fields: Tensor, scaling: str) -> Tensor:
    """Core and valence on one scale, sign kept: ``cbrt`` cube root, ``log`` sign(x) log(1 + abs(x)), ``none``."""
    if scaling == "cbrt":
        return fields.sign() * fields.abs().clamp_min(1e-12) ** (1 / 3)
    return fields.sign() * torch.log1p(fields.abs()) if scaling == "log" else fields


def _signed_frequencies(n: int, like: Tensor) -> Tensor:
    index = torch.arange(n, device=like.device)
    return torch.where(index < (n + 1) // 2, index, index - n).to(like.dtype)


def _fourier_matrices(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    index = torch.arange(n, device=like.device)
    angle = (2 * math.pi / n) * (index[:, None] * index % n).to(torch.float64)
    return torch.cos(angle).to(like.dtype), torch.sin(angle).to(like.dtype)


def _transform(
    real: Tensor, imaginary: Tensor, cosine: Tensor, sine: Tensor
) -> tuple[Tensor, Tensor]:
    """Multiply complex values by the complex matrix cosine + i sine along each of the last three axes."""
    for axis in (2, 3, 4):
        real, imaginary = (
            _along(real, cosine, axis) - _along(imaginary, sine, axis),
            _along(real, sine, axis) + _along(imaginary, cosine, axis),
        )
    return real, imaginary


def _along(values: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """The matrix applied along one of the axes 2, 3, 4; written so that no copy is made."""
    return values @ matrix.T if axis == 4 else (matrix @ values.flatten(axis + 1)).view_as(values)
