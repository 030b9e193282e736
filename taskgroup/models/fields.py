"""Differential fields of a periodic density, exact in reciprocal space with the true metric, and their distribution.

    density             rho, e/Å^3
    gradient            |grad rho|, e/Å^4
    laplacian           laplacian of rho, e/Å^5
    reduced_gradient    s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)), Perdew et al., doi:10.1103/PhysRevLett.77.3865

Each is a scalar: moving the origin, reordering or reversing lattice vectors only moves its values on the grid.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_S_FACTOR = 2 * (3 * math.pi**2) ** (1 / 3)
_LEVELS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.17, 0.25, 0.33, 0.42, 0.5, 0.58, 0.67, 0.75, 0.83, 0.9, 0.94, 0.97, 0.99, 1.0)
N_STATISTICS = len(_LEVELS) + 3


def wave_vectors(lattice: Tensor, n: int) -> Tensor:
    """Reciprocal grid points [B, 3, n, n, n] in 1/Å of cells [B, 3, 3]; the Nyquist plane of an even grid is zero.

    Its sign is not defined, so a first derivative there would not be real; the densities have next to nothing there.
    """
    frequency = torch.fft.fftfreq(n, 1.0 / n, device=lattice.device, dtype=torch.float64)
    if n % 2 == 0:
        frequency[n // 2] = 0.0
    index = torch.stack(torch.meshgrid(frequency, frequency, frequency, indexing="ij"))
    reciprocal = 2 * math.pi * torch.linalg.inv(lattice.double()).transpose(1, 2)  # rows are reciprocal vectors
    return torch.einsum("bik,ixyz->bkxyz", reciprocal, index).float()


def density_fields(density: Tensor, lattice: Tensor, names: Sequence[str], widths: Sequence[float]) -> Tensor:
    """Fields [B, C (1 + widths) names, N, N, N] of densities [B, C, N, N, N] in cells [B, 3, 3] (Å).

    The density as it is, then low-passed with an isotropic Gaussian of each width (Å) in turn.
    """
    vectors = wave_vectors(lattice, density.shape[-1])
    square = vectors.square().sum(1, keepdim=True)
    spectrum = torch.fft.fftn(density.float(), dim=(-3, -2, -1))
    found = []
    for width in (0.0, *widths):
        smooth = spectrum * torch.exp(-0.5 * width**2 * square) if width else spectrum
        found += [_field(smooth, vectors, square, name) for name in names]
    return torch.cat(found, dim=1)


def _field(spectrum: Tensor, vectors: Tensor, square: Tensor, name: str) -> Tensor:
    def real(value: Tensor) -> Tensor:
        return torch.fft.ifftn(value, dim=(-3, -2, -1)).real

    if name == "density":
        return real(spectrum)
    if name == "laplacian":
        return real(-square * spectrum)
    slope = sum(real(1j * vectors[:, axis, None] * spectrum).square() for axis in range(3)).sqrt()
    if name == "gradient":
        return slope
    rho = real(spectrum).abs().clamp_min(1e-4)  # e/Å^3; below, s says nothing about the crystal
    return (slope / (_S_FACTOR * rho ** (4 / 3))).clamp_max(10.0)


def compress(fields: Tensor, scaling: str) -> Tensor:
    """Values of core and valence on one scale, sign kept: cube root, ``log(1 + |x|)``, or as they are."""
    if scaling == "cbrt":
        return fields.sign() * fields.abs().clamp_min(1e-12) ** (1 / 3)
    if scaling == "log":
        return fields.sign() * torch.log1p(fields.abs())
    return fields


def distribution(fields: Tensor) -> Tensor:
    """Quantiles, mean, standard deviation and skewness of each field over its grid: [B, C, ...] -> [B, C * statistics].

    Exactly invariant: the order of the grid points does not matter.
    """
    flat = fields.flatten(2)
    levels = torch.tensor(_LEVELS, device=flat.device, dtype=flat.dtype)
    position = (levels * (flat.shape[-1] - 1)).round().long()
    quantiles = flat.sort(dim=-1).values[..., position]
    mean = flat.mean(-1, keepdim=True)
    deviation = flat.std(-1, keepdim=True)
    skew = ((flat - mean) / deviation.clamp_min(1e-6)).pow(3).mean(-1, keepdim=True)
    return torch.cat([quantiles, mean, deviation, skew.clamp(-20, 20).sign() * skew.abs().sqrt()], dim=-1).flatten(1)
