"""Nearness of the peaks of a density to each other, periodic images included.

Gaussians of the distance, one per entry of ``DISTANCES``, faded out smoothly at ``_FARTHEST`` (as in SchNet,
doi:10.1063/1.5019779). Distances do not depend on origin, orientation or cell.
"""

import math

import torch
from torch import Tensor

from taskgroup.models.lattice import reciprocal

DISTANCES = (1.2, 1.8, 2.4, 3.0, 3.6, 4.2, 4.8, 5.4)
"""Centres of the Gaussians, Å."""

# Width of the Gaussians, and the distance where they end, Å.
_WIDTH = 0.5
_FARTHEST = 6.0
# Closer than this (Å) a peak meets itself.
_ITSELF = 1e-3
# exp(-30) is nothing beside 1; far smaller numbers are denormal, and processors slow at them.
_VANISHING = 30.0
# Images to either side in a traced program, which may not depend on the cell; else as many as lie within the farthest.
_TRACED_REACH = 3
# Distances computed at a time.
_MOST_DISTANCES = 1 << 21


def nearness(at: Tensor, present: Tensor, lattice: Tensor) -> Tensor:
    """Return how near to each peak every peak is: [B, K, distances, K], zero where there is none.

    For each distance and each pair of peaks the Gaussians are summed over the periodic images.

    Parameters
    ----------
    at: fractional positions [B, K, 3].
    present: [B, K], True where there is a peak.
    lattice: cells [B, 3, 3] (Å).
    """
    images = _images(lattice)
    if torch.compiler.is_compiling():
        return _nearness_of_all(at, present, lattice, images)
    owners, slots = present.nonzero(as_tuple=True)
    last = int(slots.max()) + 1 if len(slots) else 0
    near = lattice.new_zeros(*present.shape, len(DISTANCES), at.shape[1])
    chunk = max(1, _MOST_DISTANCES // max(1, last * len(images)))
    for start in range(0, len(owners), chunk):
        rows, peaks = owners[start : start + chunk], slots[start : start + chunk]
        distance = _distances(at[rows, :last], at[rows, peaks], lattice[rows], images)
        is_near = (distance < _FARTHEST) & present[rows, :last, None]
        which, other, image = is_near.nonzero(as_tuple=True)
        sums = near.new_zeros(len(rows), last, len(DISTANCES))
        weights = _weights(distance[which, other, image])
        sums.index_put_((which, other), weights, accumulate=True)
        near[rows, peaks, :, :last] = sums.transpose(1, 2)
    return near


def _nearness_of_all(at: Tensor, present: Tensor, lattice: Tensor, images: Tensor) -> Tensor:
    """Return ``nearness`` from all places, for a traced program, which may not depend on how many peaks exist."""
    crystal = torch.arange(at.shape[0], device=at.device)[:, None]
    owner = crystal.expand(present.shape).flatten()
    distance = _distances(at[owner], at.flatten(0, 1), lattice[owner], images)
    sums = _weights(distance).sum(2).transpose(1, 2)
    both_present = present.flatten()[:, None, None] * present[owner, None]
    return (sums * both_present).unflatten(0, present.shape)


def _images(lattice: Tensor) -> Tensor:
    """Return whole steps [M, 3] along the lattice vectors that reach all images within ``_FARTHEST``."""
    reach = [_TRACED_REACH] * 3
    if not torch.compiler.is_compiling():
        # reciprocal vectors are as long as planes of the lattice are close
        planes_per_angstrom = reciprocal(lattice.double()).square().sum(1).amax(0).sqrt()
        steps = (_FARTHEST * planes_per_angstrom).tolist()
        # nearest images differ by half a vector at most
        reach = [math.ceil(step - 0.5) for step in steps]
    ranges = [torch.arange(-n, n + 1, device=lattice.device) for n in reach]
    return torch.cartesian_prod(*ranges)


def _distances(others: Tensor, peak: Tensor, lattice: Tensor, images: Tensor) -> Tensor:
    """Return Å [P, K, images] between positions [P, K, 3] with their images and positions [P, 3] in cells [P, 3, 3]."""
    apart = others - peak[:, None]
    lattice = lattice.to(apart)
    nearest = ((apart - apart.round()) @ lattice).float()
    steps = (images.to(lattice) @ lattice).float()
    squared = (nearest[:, :, None] + steps[:, None]).square().sum(-1)
    return squared.clamp_min(1e-12).sqrt()


def _weights(distance: Tensor) -> Tensor:
    """Return the faded Gaussians [..., distances] of distances [...]; nothing for a peak itself."""
    angle = distance.clamp_max(_FARTHEST) * (math.pi / (2 * _FARTHEST))
    fade = angle.cos().square() * (distance > _ITSELF)
    offset = (distance[..., None] - torch.tensor(DISTANCES).to(distance)) / _WIDTH
    return fade[..., None] * torch.exp(-offset.square().clamp_max(_VANISHING))
