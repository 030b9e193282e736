"""The cell itself: its reciprocal, and numbers that do not depend on the order or sign of its vectors."""

import torch
from torch import Tensor

N_LATTICE_FEATURES = 5


def reciprocal(lattice: Tensor) -> Tensor:
    """The inverse [B, 3, 3] of cells [B, 3, 3] (rows are vectors, Å): its columns are the reciprocal vectors, 1/Å."""
    a, b, c = lattice.unbind(1)
    crosses = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], dim=2)
    return crosses / volume(lattice)[:, None, None]


def volume(lattice: Tensor) -> Tensor:
    """Signed volume [B] of cells [B, 3, 3], Å^3."""
    a, b, c = lattice.unbind(1)
    return (a * _cross(b, c)).sum(1)


def lattice_features(lattice: Tensor) -> Tensor:
    """Volume and shape [B, 5] of cells [B, 3, 3] (Å): the same after any rotation, reordering or reversal of vectors.

    With the metric G = L L^T: log V, log(tr G / 3 V^(2/3)) and log(tr G^-1 V^(2/3) / 3), which together know the
    eigenvalues of G; the last two are zero for a cube. Then V^(1/3) and V, since targets may be linear in them. Brought
    to the order of 1 for cells of 10 to 1000 Å^3.
    """
    size = volume(lattice).abs()
    edge = size ** (1 / 3)
    long = lattice.square().sum((1, 2)) / (3 * edge.square())
    thin = reciprocal(lattice).square().sum((1, 2)) * edge.square() / 3
    return torch.stack([(torch.log(size) - 4) / 1.5, torch.log(long), torch.log(thin), edge / 4, size / 60], dim=1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product [B, 3], written out because ONNX has none."""
    x, y, z = a.unbind(1)
    u, v, w = b.unbind(1)
    return torch.stack([y * w - z * v, z * u - x * w, x * v - y * u], dim=1)
