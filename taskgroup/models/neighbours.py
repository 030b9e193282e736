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
_TRACED_REACH = (
    3  # cells to either side in a traced program; else as many as there are within the farthest
)
_MOST = 1 << 21  # distances at a time


def nearness(at: Tensor, present: Tensor, lattice: Tensor) -> Tensor:
    """How near to each peak every peak is: [B, K, distances, K], zero where there is none.

    Of fractional positions [B, K, 3] that are there, ``present`` [B, K], in cells [B, 3, 3] (Å). For each distance and
    each peak the Gaussians are summed over the periodic images.
    """
    images = _images(lattice)
    if torch.compiler.is_compiling():  # a traced program may not depend on how many there are
        owner = torch.arange(at.shape[0], device=at.device)[:, None].expand(present.shape).flatten()
        weights = (
            _weights(_distances(at[owner], at.flatten(0, 1), lattice[owner], images))
            .sum(2)
            .transpose(1, 2)
        )
        both = present.flatten()[:, None, None] * present[owner, None]
        return (weights * both).unflatten(0, present.shape)
    owner, slot = present.nonzero(as_tuple=True)
    last = int(slot.max()) + 1 if len(slot) else 0
    found = lattice.new_zeros(*present.shape, len(DISTANCES), at.shape[1])
    chunk = max(1, _MOST // max(1, last * len(images)))
    for start in range(0, len(owner), chunk):
        rows, peaks = owner[start : start + chunk], slot[start : start + chunk]
        distance = _distances(at[rows, :last], at[rows, peaks], lattice[rows], images)
        which, other, image = ((distance < _FARTHEST) & present[rows, :last, None]).nonzero(
            as_tuple=True
        )
        near = found.new_zeros(len(rows), last, len(DISTANCES))
        near.index_put_((which, other), _weights(distance[which, other, image]), accumulate=True)
        found[rows, peaks, :, :last] = near.transpose(1, 2)
    return found


def _images(lattice: Tensor) -> Tensor:
    """Whole steps [M, 3] along the lattice vectors that reach all images within ``_FARTHEST``."""
    reach = [_TRACED_REACH] * 3
    if not torch.compiler.is_compiling():
        steps = (
            _FARTHEST * reciprocal(lattice.double()).square().sum(1).amax(0).sqrt()
        )  # between planes of the lattice
        reach = [
            math.ceil(step - 0.5) for step in steps.tolist()
        ]  # positions differ by half a vector at most
    return torch.cartesian_prod(*[torch.arange(-n, n + 1, device=lattice.device) for n in reach])


def _distances(others: Tensor, peak: Tensor, lattice: Tensor, images: Tensor) -> Tensor:
    """Å between positions [P, K, 3] with their images and positions [P, 3] in cells [P, 3, 3]: [P, K, images]."""
    apart = others - peak[:, None]
    lattice = lattice.to(apart)
    here, steps = (
        ((apart - apart.round()) @ lattice).float(),
        (images.to(lattice) @ lattice).float(),
    )
    return (here[:, :, None] + steps[:, None]).square().sum(-1).clamp_min(1e-12).sqrt()


def _weights(distance: Tensor) -> Tensor:
    """The faded Gaussians of distances: [...] -> [..., distances]; nothing for a peak itself."""
    fade = (distance.clamp_max(_FARTHEST) * (math.pi / (2 * _FARTHEST))).cos().square() * (
        distance > _ITSELF
    )
    offset = (distance[..., None] - torch.tensor(DISTANCES).to(distance)) / _WIDTH
    return fade[..., None] * torch.exp(-offset.square().clamp_max(_VANISHING))
