"""The cell itself: its reciprocal, and numbers that do not depend on the order or sign of its vectors."""

import torch
from torch import Tensor

N_LATTICE_FEATURES = 5


def reciprocal(lattice: Tensor) -> Tensor:
    """The inverse [B, 3, 3] of cells [B, 3, 3] (rows are vectors, Å): its columns are the reciprocal vectors, 1/Å."""
    faces = _faces(lattice)
    return (faces / _volume(lattice, faces)[:, None, None]).transpose(1, 2)


def volume(lattice: Tensor) -> Tensor:
    """Signed volume [B] of cells [B, 3, 3], Å^3."""
    return _volume(lattice, _faces(lattice))


def lattice_features(lattice: Tensor) -> Tensor:
    """Volume and shape [B, 5] of cells [B, 3, 3] (Å): the same after any rotation, reordering or reversal of vectors.

    With the metric G = L L^T: log V, log(tr G / 3 V^(2/3)) and log(tr G^-1 V^(2/3) / 3), which together know the
    eigenvalues of G; the last two are zero for a cube. Then V^(1/3) and V, since targets may be linear in them. Brought
    to the order of 1 for cells of 10 to 1000 Å^3.
    """
    faces = _faces(lattice)
    size = _volume(lattice, faces).abs()
    edge = size ** (1 / 3)
    long = lattice.square().sum((1, 2)) / (3 * edge.square())
    thin = faces.square().sum((1, 2)) / (3 * edge**4)
    return torch.stack(
        [(torch.log(size) - 4) / 1.5, torch.log(long), torch.log(thin), edge / 4, size / 60], dim=1
    )


def _volume(lattice: Tensor, faces: Tensor) -> Tensor:
    return (lattice[:, 0] * faces[:, 0]).sum(1)


def _faces(lattice: Tensor) -> Tensor:
    """Cross products [B, 3, 3] of the other two vectors, for each vector of cells [B, 3, 3].

    From the cell repeated twice either way, in few operations (a GPU's time is their number), and ones that ONNX has.
    """
    rows = torch.cat([lattice, lattice], dim=1)
    twice = torch.cat([rows, rows], dim=2)
    return twice[:, 1:4, 1:4] * twice[:, 2:5, 2:5] - twice[:, 1:4, 2:5] * twice[:, 2:5, 1:4]
