"""How near the peaks of a density are to each other, periodic images included: what a network asks its neighbours by.

Gaussians of the distance, as many as there are ``DISTANCES``, faded out smoothly at ``_FARTHEST`` (as in SchNet,
doi:10.1063/1.5019779). Distances know nothing of origin, orientation or cell.
"""

import math

import torch
from torch import Tensor

from taskgroup.models.lattice import reciprocal

DISTANCES = (1.2, 1.8, 2.4, 3.0, 3.6, 4.2, 4.8, 5.4)  # Å
_WIDTH, _FARTHEST = 0.5, 6.0  # Å
_ITSELF = 1e-3  # Å
_VANISHING = 30.0  # exp(-30) is nothing beside 1
_TRACED_REACH = 3  # cells to either side in a traced program; else as many as there are within the farthest
_CHUNK = 64  # peaks at a time


def nearness(at: Tensor, present: Tensor, lattice: Tensor) -> Tensor:
    """How near to each peak every peak is: [B, K, distances * K], zero where there is none.

    Of fractional positions [B, K, 3] that are there, ``present`` [B, K], in cells [B, 3, 3] (Å). For each distance and
    each peak the Gaussians are summed over the periodic images.
    """
    images = _images(lattice)
    if torch.compiler.is_compiling():  # a traced program may not depend on how many there are
        owner = torch.arange(at.shape[0], device=at.device)[:, None].expand(present.shape).flatten()
        found = _near(at[owner], at.flatten(0, 1), lattice[owner], images) * present[owner, None]
        return (found * present.flatten()[:, None, None]).flatten(1).unflatten(0, present.shape).to(lattice.dtype)
    owner, slot = present.nonzero(as_tuple=True)
    last = int(slot.max()) + 1 if len(slot) else 0
    found = lattice.new_zeros(*present.shape, len(DISTANCES), at.shape[1])
    for start in range(0, len(owner), _CHUNK):
        rows, peaks = owner[start : start + _CHUNK], slot[start : start + _CHUNK]
        near = _near(at[rows, :last], at[rows, peaks], lattice[rows], images) * present[rows, None, :last]
        found[rows, peaks, :, :last] = near.to(found)
    return found.flatten(2)


def _images(lattice: Tensor) -> Tensor:
    """Whole steps [M, 3] along the lattice vectors that reach all images within ``_FARTHEST``."""
    reach = _TRACED_REACH
    if not torch.compiler.is_compiling():
        steps = _FARTHEST * reciprocal(lattice.double()).square().sum(1).max().sqrt()  # between planes of the lattice
        reach = math.ceil(float(steps) - 0.5)  # half a step nearer: positions differ by half a vector at most
    line = torch.arange(-reach, reach + 1, device=lattice.device)
    return torch.cartesian_prod(line, line, line)


def _near(others: Tensor, peak: Tensor, lattice: Tensor, images: Tensor) -> Tensor:
    """[P, distances, K] of positions [P, K, 3] around positions [P, 3] in cells [P, 3, 3]."""
    apart = others - peak[:, None]
    vectors = ((apart - apart.round())[:, :, None] + images) @ lattice[:, None].to(apart)
    distance = vectors.float().square().sum(-1).clamp_min(1e-12).sqrt()
    fade = (distance.clamp_max(_FARTHEST) * (math.pi / (2 * _FARTHEST))).cos().square() * (distance > _ITSELF)
    offset = (distance[..., None] - torch.tensor(DISTANCES).to(distance)) / _WIDTH
    return (fade[..., None] * torch.exp(-offset.square().clamp_max(_VANISHING))).sum(2).transpose(1, 2)
