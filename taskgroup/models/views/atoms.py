"""The atoms of a structure, and the density between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from taskgroup.errors import ConfigError
from taskgroup.models.lattice import reciprocal, standard_orientation
from taskgroup.models.peaks.neighbours import nearness
from taskgroup.models.views.base import View
from taskgroup.models.views.crystal_batch import AtomBatch, CrystalBatch
from taskgroup.models.views.peaks import trimmed_places
from taskgroup.models.views.rows import PreparedRows
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

NUMBER = 1
"""Column of the atomic number; column 0 says whether there is an atom."""
CORE_RADIUS = 1.0
"""Å around each atom in which the density is not looked at: there it belongs to the code and the pseudopotential."""


class AtomView(View):
    """Atomic numbers, how near atoms are to each other, and the distribution of the density outside of their cores.

    Rows have ``peaks`` [B, K, 2], 1 where there is an atom and its atomic number; ``nearness`` [B, K, distances, K];
    ``positions`` [B, K, 3]; and ``statistics`` [B, D], the distribution over the grid points farther than
    ``CORE_RADIUS`` from every atom. With ``atoms: structure_alone`` the statistics are zero.
    """

    version = 2
    uses_atoms: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.sees_density = config.atoms != "structure_alone"
        self.n_columns = 2
        self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives."""
        config = self.config
        return config.fields, config.widths, config.scaling, config.atoms

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the atoms and densities of crystals. Raises ConfigError: a crystal has no atoms."""
        atoms = _known_atoms(crystals)
        lattice = standard_orientation(crystals.lattice.double())
        present = atoms.numbers > 0
        near = nearness(atoms.positions.double(), present, lattice.float())
        columns = torch.stack([present.to(near), atoms.numbers.to(near)], dim=2)
        return PreparedRows.of(
            peaks=columns,
            nearness=near,
            positions=atoms.positions.to(near),
            statistics=self._statistics(crystals),
        )

    def trimmed(self, rows: PreparedRows) -> PreparedRows:
        """Return rows with as many places as the crystal with the most atoms needs."""
        return trimmed_places(rows)

    def _statistics(self, crystals: CrystalBatch) -> Tensor:
        """Return the distribution of the fields [B, D] outside of cores; zeros for structures alone."""
        if not self.sees_density:
            return crystals.density.new_zeros(len(crystals), self.n_statistics)
        density = self._seen(crystals)
        fields = self._fields(density, crystals.lattice)
        return distribution(fields, density, outside_cores(crystals))


def outside_cores(crystals: CrystalBatch) -> Tensor:
    """Return which grid points [B, n1, n2, n3] are farther than ``CORE_RADIUS`` from every atom.

    Where atoms are so close that there are none, all points count.
    """
    atoms, lattice = crystals.atoms, crystals.lattice.float()
    shape = crystals.density.shape[2:]
    axes = [torch.arange(n, device=lattice.device) / n for n in shape]
    points = torch.cartesian_prod(*axes)
    shifts = _images(lattice) @ lattice
    if torch.compiler.is_compiling():
        # a traced program may not depend on how many atoms there are
        outside = _far_from_atoms(points, atoms, lattice, shifts)
    else:
        outside = torch.ones(len(crystals), len(points), dtype=torch.bool, device=lattice.device)
        # One place for an atom at a time: all of them at once would not fit into memory in large cells.
        for place in range(atoms.numbers.shape[1]):
            one = atoms[:, place : place + 1]
            outside = outside & _far_from_atoms(points, one, lattice, shifts)
    outside = outside | ~outside.any(1, keepdim=True)
    return outside.unflatten(1, shape)


def _far_from_atoms(points: Tensor, atoms: AtomBatch, lattice: Tensor, shifts: Tensor) -> Tensor:
    """Return which points [P, 3] (fractional) are far from all atoms: [B, P].

    ``shifts`` [B, M, 3] (Å) lead to the images that are looked at.
    """
    apart = points - atoms.positions[:, :, None].to(lattice)
    nearest = (apart - apart.round()) @ lattice[:, None]
    is_none = (atoms.numbers == 0)[:, :, None]
    near_any = torch.zeros_like(nearest[..., 0], dtype=torch.bool)
    for shift in shifts.unbind(1):
        squared_distance = (nearest + shift[:, None, None]).square().sum(-1)
        near_any = near_any | (squared_distance <= CORE_RADIUS**2)
    return (is_none | ~near_any).all(1)


def _images(lattice: Tensor) -> Tensor:
    """Return whole steps [M, 3] along the lattice vectors to the images of an atom that can be near a point."""
    reach = [1, 1, 1]
    if not torch.compiler.is_compiling():
        # reciprocal vectors are as long as planes of the lattice are close
        planes_per_angstrom = reciprocal(lattice.double()).square().sum(1).amax(0).sqrt()
        # the image that rounding chose is at most half a vector away along each
        reach = [math.ceil(CORE_RADIUS * n - 0.5) for n in planes_per_angstrom.tolist()]
    ranges = [torch.arange(-n, n + 1, device=lattice.device) for n in reach]
    return torch.cartesian_prod(*ranges).to(lattice)


def _known_atoms(crystals: CrystalBatch) -> AtomBatch:
    """Return the atoms of crystals. Raises ConfigError: one has none."""
    atoms = crystals.atoms
    # a traced program cannot ask whether there are any
    can_ask = not torch.compiler.is_compiling()
    if atoms is None or (can_ask and not (atoms.numbers > 0).any(1).all()):
        raise ConfigError(
            "model.atoms: a network that knows the atoms needs those of every crystal, found one without; "
            "give files with a structure, or use model.atoms: density"
        )
    return atoms
