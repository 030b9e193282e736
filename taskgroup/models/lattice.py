"""The cell: its reciprocal, and numbers that do not depend on the order or sign of its vectors."""

import torch
from torch import Tensor

N_LATTICE_FEATURES = 5
"""Length of ``lattice_features``."""


def reciprocal(lattice: Tensor) -> Tensor:
    """Return the inverse [B, 3, 3] of cells [B, 3, 3] (rows are vectors, Å).

    Its columns are the reciprocal vectors, 1/Å.
    """
    faces = _faces(lattice)
    return (faces / _volume(lattice, faces)[:, None, None]).transpose(1, 2)


def volume(lattice: Tensor) -> Tensor:
    """Return the signed volume [B] of cells [B, 3, 3], Å^3."""
    return _volume(lattice, _faces(lattice))


def lattice_features(lattice: Tensor) -> Tensor:
    """Return volume and shape [B, 5] of cells [B, 3, 3] (Å).

    They are the same after any rotation, reordering or reversal of vectors. With the metric G = L L^T: log V,
    log(tr G / 3 V^(2/3)) and log(tr G^-1 V^(2/3) / 3), which together know the eigenvalues of G; the last two are zero
    for a cube. Then V^(1/3) and V, since targets may be linear in them. All are of the order of 1 for cells of 10 to
    1000 Å^3.
    """
    faces = _faces(lattice)
    size = _volume(lattice, faces).abs()
    edge = size ** (1 / 3)
    elongation = lattice.square().sum((1, 2)) / (3 * edge.square())
    flatness = faces.square().sum((1, 2)) / (3 * edge**4)
    features = [
        (torch.log(size) - 4) / 1.5,
        torch.log(elongation),
        torch.log(flatness),
        edge / 4,
        size / 60,
    ]
    return torch.stack(features, dim=1)


def _volume(lattice: Tensor, faces: Tensor) -> Tensor:
    return (lattice[:, 0] * faces[:, 0]).sum(1)


def _faces(lattice: Tensor) -> Tensor:
    """Return cross products [B, 3, 3] of the other two vectors, for each vector of cells [B, 3, 3].

    Indices of a cross product are cyclic, so the cell is repeated once along rows and columns and slices of it are
    multiplied: few operations (a GPU's time is their number), and ones that ONNX has.
    """
    rows = torch.cat([lattice, lattice], dim=1)
    repeated = torch.cat([rows, rows], dim=2)
    forward = repeated[:, 1:4, 1:4] * repeated[:, 2:5, 2:5]
    backward = repeated[:, 1:4, 2:5] * repeated[:, 2:5, 1:4]
    return forward - backward
