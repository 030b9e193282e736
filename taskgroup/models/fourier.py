"""Fourier series of periodic fields, as products with small matrices: any grid in, any points out.

Real and imaginary parts are kept apart, so that programs can be written as ONNX, and recorded on a GPU. The highest
frequency of an even grid has no sign, hence no derivative: it is dropped.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Waves = tuple[Tensor, Tensor]
"""Real and imaginary part [B, C, K1, K2, K3] of a field; along the last axis only indices from 0 on."""


def waves(field: Tensor) -> Waves:
    """Return the Fourier coefficients of real fields [B, C, N1, N2, N3]; the first of them is the mean."""
    real, imaginary = field, None
    for axis, n in zip((4, 3, 2), field.shape[:1:-1], strict=True):
        index = wave_indices(n, field, half=axis == 4)
        angle = _angles(index, torch.arange(n, device=field.device), n)
        cosine, sine = (angle.cos() / n).to(field.dtype), (angle.sin() / -n).to(field.dtype)
        real, imaginary = _product(real, imaginary, cosine, sine, axis)
    return real, imaginary


def sampled(coefficients: Waves, grid: Sequence[int]) -> Tensor:
    """Return the real field [B, C, n1, n2, n3] of Fourier coefficients at i / n along each axis of a grid."""
    real, imaginary = coefficients
    for axis, n in zip((2, 3), grid, strict=False):
        index = wave_indices(real.shape[axis], real)
        angle = _angles(torch.arange(n, device=real.device), index, n)
        cosine, sine = angle.cos().to(real.dtype), angle.sin().to(real.dtype)
        real, imaginary = _product(real, imaginary, cosine, sine, axis)
    index = torch.arange(real.shape[4], device=real.device)
    angle = _angles(torch.arange(grid[2], device=real.device), index, grid[2])
    # every index but 0 stands for its negative too
    twice = torch.where(index > 0, 2.0, 1.0)
    cosine, sine = (angle.cos() * twice).to(real.dtype), (angle.sin() * twice).to(real.dtype)
    return real @ cosine.T - imaginary @ sine.T


def wave_indices(n: int, like: Tensor, half: bool = False) -> Tensor:
    """Return the whole frequencies that a grid of n points holds in pairs, ascending; ``half``: from 0 on."""
    highest = (n - 1) // 2
    return torch.arange(0 if half else -highest, highest + 1, device=like.device)


def wave_vectors(grid: Sequence[int], inverse: Tensor) -> Tensor:
    """Return the wave vectors [B, 3, K1, K2, K3] (1/Å, with 2 pi) of a grid's ``waves``.

    ``inverse`` [B, 3, 3] is the ``reciprocal`` of the cells (1/Å): its columns are the reciprocal vectors.
    """
    first, second, third = grid
    indices = [
        wave_indices(first, inverse),
        wave_indices(second, inverse),
        wave_indices(third, inverse, half=True),
    ]
    index = torch.stack(torch.meshgrid(*indices, indexing="ij")).to(inverse.dtype)
    vectors = 2 * math.pi * (inverse @ index.flatten(1))
    return vectors.unflatten(2, index.shape[1:])


def _angles(rows: Tensor, columns: Tensor, n: int) -> Tensor:
    """Return 2 pi r c / n [rows, columns], whole periods dropped while numbers are whole."""
    return (2 * math.pi / n) * (rows[:, None] * columns % n).to(torch.float64)


def _product(
    real: Tensor, imaginary: Tensor | None, cosine: Tensor, sine: Tensor, axis: int
) -> Waves:
    """Apply the complex matrix cosine + i sine along an axis."""
    if imaginary is None:
        return along(real, cosine, axis), along(real, sine, axis)
    new_real = along(real, cosine, axis) - along(imaginary, sine, axis)
    new_imaginary = along(real, sine, axis) + along(imaginary, cosine, axis)
    return new_real, new_imaginary


def along(values: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return the matrix [new, old] applied along one of the axes 2, 3, 4; written so that no copy is made."""
    if axis == 4:
        return values @ matrix.T
    product = matrix @ values.flatten(axis + 1)
    return product.unflatten(-1, values.shape[axis + 1 :])
