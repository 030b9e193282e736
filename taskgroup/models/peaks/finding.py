"""The atoms of a density, found in the density alone.

Most atoms are a local maximum, found between grid points by a parabola through the logarithm of its 27 neighbours
(exact for a Gaussian). Atoms whose maximum a neighbour swallows, such as bonded hydrogen, are found as shoulders.
Nothing here is told which element sits where. Invariant to origin, orientation, cell and order of the atoms, as far as
interpolation goes.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from taskgroup.models.peaks.maxima import Parabola, grid_of, local_maxima, parabola
from taskgroup.models.peaks.series import series_at
from taskgroup.models.peaks.shoulders import ShoulderRules, are_atoms, find_shoulders

USUAL_PEAKS = 48
"""Places for peaks of a crystal unless more are asked for; the highest ones are kept."""
LEAST_DENSITY = 1e-4
"""e/Å^3 below which the logarithm of a density is cut off."""

# The parabola is off by a tenth of a grid step at most; each step of Newton's method squares that.
_NEWTON_STEPS = 2


@dataclass(frozen=True)
class PeakRules:
    """Limits that tell atoms from other maxima of a density.

    Curvatures are Laplacians of the logarithm at a maximum, 1/Å^2; they are negative, and of a Gaussian of width s they
    are -3 / s^2.
    """

    # e/Å^3; lower maxima are no atoms.
    least_height: float = 0.02
    # Least height as a share of the highest one. Less lies between atoms; hydrogen beside gold has just more.
    least_share: float = 0.003
    # Maxima closer than this (Å) are one: two grid points share it.
    same: float = 0.45
    # Maxima closer than this (Å) to one that is higher by this share are bumps on its shell of valence electrons: no
    # two atoms are so close, but for equal ones such as those of H2.
    shell: float = 0.85
    shell_share: float = 0.9
    # Waves of a coarse grid are sharper than atoms: sharper than the highest peak by a third, ...
    sharper: float = 1.33
    # ... and sharper than a point seen through the stored low-pass of 0.20 Å (3 / 0.2^2).
    sharpest: float = 75.0
    # Bumps between atoms are flatter: by this factor than the highest peak, and than this curvature.
    flatter: float = 0.12
    flattest: float = 8.5
    # Of atoms without a maximum.
    shoulders: ShoulderRules = field(default_factory=ShoulderRules)


class Peaks(NamedTuple):
    """Where the peaks of densities are: K places for each of B crystals, the highest first.

    ``at`` [B, K, 3] fractional; ``height`` [B, K], the logarithm of the density there; ``curvature`` [B, K], the
    Laplacian of the logarithm, 1/Å^2; ``present`` [B, K], whether there is one: places without one are the last.
    """

    at: Tensor
    height: Tensor
    curvature: Tensor
    present: Tensor


def find_peaks(
    density: Tensor,
    lattice: Tensor,
    rules: PeakRules | None = None,
    places: int = USUAL_PEAKS,
) -> Peaks:
    """Return the peaks of densities [B, C, n1, n2, n3] (e/Å^3; the first channel's) in cells [B, 3, 3] (Å).

    Of a crystal with more peaks than ``places`` the highest are kept.
    """
    rules = rules or PeakRules()
    total = density[:, :1].double()
    lattice = lattice.double()
    logarithm = log_density(total)[:, 0]
    peaks = _by_height(_maxima(logarithm, lattice))
    likely = _compact(peaks._replace(present=_plausible(peaks, rules)))
    resolved = _distinct(_refined(likely, total, lattice), lattice, rules)
    shoulders = _compact(_shoulders(total, logarithm, lattice, resolved, rules))
    together = _by_height(_joined(resolved, shoulders))
    return _in_places(_distinct(together, lattice, rules), places)


def log_density(density: Tensor) -> Tensor:
    """Return densities [B, C, n1, n2, n3] with the logarithm of the first channel in its place."""
    logarithm = density[:, :1].clamp_min(LEAST_DENSITY).log()
    return torch.cat([logarithm, density[:, 1:]], dim=1)


def _maxima(logarithm: Tensor, lattice: Tensor) -> Peaks:
    """Return all maxima of the logarithm of a density [B, n1, n2, n3]."""
    place, is_maximum = local_maxima(logarithm, least=math.log(LEAST_DENSITY))
    around = parabola(logarithm, place)
    return _peaks_at(place, around.shift(), around, logarithm, lattice, is_maximum)


def _refined(peaks: Peaks, density: Tensor, lattice: Tensor) -> Peaks:
    """Return the peaks at the maxima of the Fourier series through densities [B, 1, n1, n2, n3], by Newton's method."""
    grid = grid_of(density).to(peaks.at)
    at = peaks.at
    for _ in range(_NEWTON_STEPS):
        around = _logarithm_of(series_at(density[:, 0], at))
        # In grid steps, where a step is bounded and a plateau is none.
        in_steps = Parabola(around.value, around.slope / grid, around.bend / (grid[:, None] * grid))
        at = at + in_steps.shift() / grid
    around = _logarithm_of(series_at(density[:, 0], at))
    bend = around.cartesian_bend(lattice, torch.ones_like(grid))
    curvature = bend.diagonal(dim1=-2, dim2=-1).sum(-1)
    return peaks._replace(at=at, height=around.value, curvature=curvature)


def _logarithm_of(around: Parabola) -> Parabola:
    """Return the parabola of the logarithm of a field from the field's own."""
    value = around.value.clamp_min(LEAST_DENSITY)
    slope = around.slope / value[..., None]
    bend = around.bend / value[..., None, None] - slope[..., None] * slope[..., None, :]
    return Parabola(value.log(), slope, bend)


def _shoulders(
    density: Tensor, logarithm: Tensor, lattice: Tensor, resolved: Peaks, rules: PeakRules
) -> Peaks:
    """Return the atoms of densities [B, 1, n1, n2, n3] that are none of the ``resolved`` maxima."""
    blobs = find_shoulders(density, lattice, rules.shoulders)
    apart = _distances(blobs.at, resolved.at, lattice)
    to_nearest = torch.where(resolved.present[:, None], apart, torch.inf).amin(2)
    atoms = are_atoms(blobs, to_nearest, rules.shoulders)
    grid = grid_of(logarithm)
    nearest = (blobs.at * grid).round()
    around = parabola(logarithm, nearest.long())
    return _peaks_at(nearest, blobs.at * grid - nearest, around, logarithm, lattice, atoms)


def _peaks_at(
    place: Tensor,
    shift: Tensor,
    around: Parabola,
    logarithm: Tensor,
    lattice: Tensor,
    present: Tensor,
) -> Peaks:
    """Return peaks ``shift`` grid steps [B, M, 3] from grid points ``place`` [B, M, 3]."""
    grid = grid_of(logarithm)
    bend = around.cartesian_bend(lattice, grid)
    curvature = bend.diagonal(dim1=-2, dim2=-1).sum(-1)
    return Peaks((place + shift) / grid, around.value_at(shift), curvature, present)


def _joined(first: Peaks, second: Peaks) -> Peaks:
    """Return the peaks of both."""
    pairs = zip(first, second, strict=True)
    return Peaks(*(torch.cat(pair, dim=1) for pair in pairs))


def _by_height(peaks: Peaks) -> Peaks:
    """Return the peaks in order of height, those that are there first."""
    height = torch.where(peaks.present, peaks.height, -torch.inf)
    return _taken(peaks, height.argsort(dim=1, descending=True))


def _plausible(peaks: Peaks, rules: PeakRules) -> Tensor:
    """Return which maxima [B, K] are as sharp and as high as atoms are; the highest one always is."""
    of_highest = peaks.curvature[:, :1].clamp_max(-1e-6)
    sharpest = (rules.sharper * of_highest).clamp_max(-rules.sharpest)
    flattest = (rules.flatter * of_highest).clamp_max(-rules.flattest)
    relative_floor = peaks.height[:, :1] + math.log(rules.least_share)
    floor = relative_floor.clamp_min(math.log(rules.least_height))
    likely = (peaks.curvature > sharpest) & (peaks.curvature < flattest) & (peaks.height > floor)
    # every crystal has an atom
    likely[:, 0] = True
    return likely & peaks.present


def _distinct(peaks: Peaks, lattice: Tensor, rules: PeakRules) -> Peaks:
    """Return peaks in order of height without those that belong to a higher one: the same peak again, or its shell."""
    apart = _distances(peaks.at, peaks.at, lattice)
    higher_by = peaks.height[:, None] - peaks.height[:, :, None]
    comes_before = torch.ones_like(apart[0], dtype=torch.bool).tril(-1)
    is_same = (apart < rules.same) & comes_before
    is_shell = (apart < rules.shell) & (higher_by > -math.log(rules.shell_share))
    belongs = ((is_same | is_shell) & peaks.present[:, None]).any(2)
    return peaks._replace(present=peaks.present & ~belongs)


def _distances(first: Tensor, second: Tensor, lattice: Tensor) -> Tensor:
    """Return Å [B, M, K] between fractional places [B, M, 3] and [B, K, 3], nearest image along each vector."""
    apart = first[:, :, None] - second[:, None]
    nearest_image = apart - apart.round()
    return (nearest_image @ lattice[:, None]).square().sum(-1).sqrt()


def _compact(peaks: Peaks) -> Peaks:
    """Return the peaks in as few places as hold those that are there; all places in a traced program."""
    if torch.compiler.is_compiling():
        return peaks
    most = int(peaks.present.sum(1).max())
    return _in_places(peaks, max(1, most))


def _in_places(peaks: Peaks, places: int) -> Peaks:
    """Return the first peaks that are there in so many places, the order kept; places without one are the last."""
    count = peaks.present.shape[1]
    # A stable order: those that are there by number, then the others.
    rank = peaks.present * count - torch.arange(count, device=peaks.at.device)
    first = _taken(peaks, rank.topk(min(places, count), dim=1).indices)
    missing = max(0, places - count)
    return Peaks(
        nn.functional.pad(first.at, (0, 0, 0, missing)),
        nn.functional.pad(first.height, (0, missing)),
        nn.functional.pad(first.curvature, (0, missing)),
        nn.functional.pad(first.present, (0, missing)),
    )


def _taken(peaks: Peaks, order: Tensor) -> Peaks:
    """Return the peaks of these places [B, K]."""
    return Peaks(
        peaks.at.gather(1, order[..., None].expand(-1, -1, 3)),
        peaks.height.gather(1, order),
        peaks.curvature.gather(1, order),
        peaks.present.gather(1, order),
    )
