"""Atoms that make no maximum of the density: hydrogen on the shoulder of oxygen, nitrogen or a metal.

The tail of a heavy neighbour is smooth, the cusp at a nucleus is not. So minus the Laplacian of the density, seen
through a narrow Gaussian, has a maximum at the nucleus although the density has none: blob detection by a difference
of Gaussians (D. G. Lowe, doi:10.1023/B:VISI.0000029664.99615.94). Shells of valence electrons around a heavy core and
bonds make such maxima as well. They are told from atoms by their shape: a shell is curved along the radius alone, an
atom across the bond in both directions.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from taskgroup.models.fields import low_passes
from taskgroup.models.lattice import reciprocal
from taskgroup.models.peaks.maxima import grid_of, local_maxima, parabola

# Widths (Å) of the Gaussians whose differences are taken. The first two are so narrow that hydrogen at .96 Å from
# oxygen is a maximum of its own; the ringing of a coarse grid about a heavy core makes such maxima too. What the last
# two see has no ringing: it says how strong a blob is and how it is curved.
_WIDTHS = (0.03, 0.10, 0.18)
# Points of the grid that is searched per point of the stored one: hydrogen and nitrogen lie four stored points apart,
# and a maximum needs lower points all around.
_FINER = 2.0


@dataclass(frozen=True)
class ShoulderRules:
    """Limits that tell atoms without a maximum from shells and bonds.

    Strength is minus the Laplacian, e/Å^5. Curvatures are the three principal ones of the density there, in order.
    """

    # An atom on a shoulder, hydrogen: at least this strong, about half of a free hydrogen atom, ...
    strength: float = 5.0
    # ... curved across the bond in both directions nearly alike, or in all three directions somewhat, ...
    second_curvature: float = 0.85
    roundness: float = 0.55
    # ... and no closer (Å) to a maximum than hydrogen to anything but hydrogen. Shells of a core lie within .8 Å.
    distance: float = 0.85
    # A weak atom far from others, lithium beside tellurium: curved alike in all directions.
    weak_strength: float = 0.7
    third_curvature: float = 0.8
    weak_distance: float = 1.3
    # Grid step (Å) above which nothing is a shoulder: waves of a coarse grid look like hydrogen.
    coarsest: float = 0.23


class Shoulders(NamedTuple):
    """Places [B, M, 3] (fractional) of blobs; ``strength`` [B, M] and ``curvatures`` [B, M, 3], the strongest first.

    ``present`` [B, M] is False for places that are left over.
    """

    at: Tensor
    strength: Tensor
    curvatures: Tensor
    present: Tensor


def find_shoulders(density: Tensor, lattice: Tensor, rules: ShoulderRules) -> Shoulders:
    """Return the blobs of densities [B, 1, n1, n2, n3] (e/Å^3) in cells [B, 3, 3] (Å).

    Most of them are atoms that have a maximum of the density as well.
    """
    fields = low_passes(density, reciprocal(lattice), _WIDTHS, _FINER)
    narrow, middle, wide = (field[:, 0] for field in fields)
    sharp = _strength(narrow, middle, _WIDTHS[:2])
    # The parabola through the logarithm is exact for a Gaussian.
    logarithm = sharp.clamp_min(rules.weak_strength / 10).log()
    place, is_maximum = local_maxima(logarithm, least=math.log(rules.weak_strength))
    smooth = _strength(middle, wide, _WIDTHS[1:])
    grid = grid_of(logarithm)
    bend = parabola((middle + wide) / 2, place).cartesian_bend(lattice, grid)
    return Shoulders(
        at=(place + parabola(logarithm, place).shift()) / grid,
        strength=parabola(smooth, place).value,
        curvatures=_principal(bend),
        present=is_maximum & _is_fine(density, lattice, rules)[:, None],
    )


def _is_fine(density: Tensor, lattice: Tensor, rules: ShoulderRules) -> Tensor:
    """Return which densities [B] have grid points close enough."""
    steps = lattice.square().sum(2).sqrt() / grid_of(density)
    return steps.amax(1) <= rules.coarsest


def _strength(narrow: Tensor, wide: Tensor, widths: tuple[float, float]) -> Tensor:
    """Return minus the Laplacian of a density between two widths (Å) of the Gaussian it is seen through."""
    # The density changes with the variance of a Gaussian by half its Laplacian.
    return 2 * (narrow - wide) / (widths[1] ** 2 - widths[0] ** 2)


def are_atoms(shoulders: Shoulders, distance: Tensor, rules: ShoulderRules) -> Tensor:
    """Return which blobs [B, M] are atoms, from their distances [B, M] (Å) to the nearest atom with a maximum."""
    first, second, third = shoulders.curvatures.unbind(-1)
    # Curvatures at a maximum are negative; elsewhere nothing is an atom.
    first = first.clamp_max(-1e-6)
    is_alike = (second / first > rules.second_curvature) | (third / first > rules.roundness)
    is_strong = (shoulders.strength > rules.strength) & (distance > rules.distance)
    is_hydrogen = is_strong & is_alike
    is_weak = (
        (shoulders.strength > rules.weak_strength)
        & (third / first > rules.third_curvature)
        & (distance > rules.weak_distance)
    )
    return (is_hydrogen | is_weak) & shoulders.present


def _principal(matrix: Tensor) -> Tensor:
    """Return the eigenvalues [..., 3] of symmetric matrices [..., 3, 3], the lowest first, in closed form.

    Trigonometric solution of the characteristic cubic (O. K. Smith, doi:10.1145/355578.366316), which a traced program
    can hold.
    """
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    deviator = matrix - mean[..., None, None] * torch.eye(3).to(matrix)
    size = (deviator.square().sum((-2, -1)) / 6).clamp_min(1e-24).sqrt()
    half_determinant = _determinant(deviator / size[..., None, None]) / 2
    angle = half_determinant.clamp(-1, 1).acos() / 3
    highest = mean + 2 * size * angle.cos()
    lowest = mean + 2 * size * (angle + 2 * math.pi / 3).cos()
    return torch.stack([lowest, 3 * mean - lowest - highest, highest], dim=-1)


def _determinant(matrix: Tensor) -> Tensor:
    first, second, third = matrix.unbind(-2)
    return (first * torch.linalg.cross(second, third)).sum(-1)
