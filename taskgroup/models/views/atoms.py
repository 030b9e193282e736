"""The density around the atoms of a structure, instead of around peaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from taskgroup.errors import ConfigError
from taskgroup.models.lattice import standard_orientation
from taskgroup.models.neighbours import nearness
from taskgroup.models.peak_finding import Peaks
from taskgroup.models.peak_table import n_columns, peak_table
from taskgroup.models.views.base import View
from taskgroup.models.views.crystal_batch import CrystalBatch
from taskgroup.models.views.peaks import trimmed_places
from taskgroup.models.views.rows import PreparedRows
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

NUMBER = 1
"""Column of the atomic number; column 0 says whether there is an atom."""

# Columns of the table of peaks that describe a maximum: present, height, curvature. Of an atom the first is kept.
_N_HEAD = 3


class AtomView(View):
    """Atomic numbers, what the density looks like around each atom, and how near atoms are to each other.

    Rows have ``peaks`` [B, K, columns]: 1 where there is an atom, its atomic number, then the spheres of
    ``peak_table``; further ``nearness``, ``positions`` and ``statistics`` as a ``PeakView`` has them.

    With ``atoms: structure_alone`` all that comes from the density is zero.
    """

    version = 1
    uses_atoms: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.sees_density = config.atoms != "structure_alone"
        self.n_columns = 2 + n_columns(self.in_channels) - _N_HEAD
        if config.descriptors:
            self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives: fields are in the distribution only."""
        config = self.config
        of_fields = (config.fields, config.widths, config.scaling) if config.descriptors else ()
        return (*of_fields, config.atoms)

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the densities and atoms of crystals. Raises ConfigError: a crystal has no atoms."""
        density = self._seen(crystals)
        # The spheres hold finitely many points: turned with the crystal, they see the same of it.
        lattice = standard_orientation(crystals.lattice.double())
        atoms = _atoms_as_peaks(crystals)
        profiles = peak_table(density, lattice, atoms)[:, :, _N_HEAD:]
        present = atoms.present[..., None].to(profiles)
        numbers = crystals.atoms.numbers[..., None].to(profiles)
        near = nearness(atoms.at, atoms.present, lattice.float())
        rows = PreparedRows.of(
            peaks=torch.cat([present, numbers, self._shown(profiles)], dim=2),
            nearness=near,
            positions=atoms.at.to(near),
        )
        if not self.n_statistics:
            return rows
        fields = self._fields(density, lattice)
        return rows.replace(statistics=self._shown(distribution(fields, density)))

    def trimmed(self, rows: PreparedRows) -> PreparedRows:
        """Return rows with as many places as the crystal with the most atoms needs."""
        return trimmed_places(rows)

    def _shown(self, of_density: Tensor) -> Tensor:
        return of_density if self.sees_density else torch.zeros_like(of_density)


def _atoms_as_peaks(crystals: CrystalBatch) -> Peaks:
    """Return the atoms as the table of peaks takes them; they have neither height nor curvature."""
    atoms = crystals.atoms
    # a traced program cannot ask whether there are any
    can_ask = not torch.compiler.is_compiling()
    if atoms is None or (can_ask and not (atoms.numbers > 0).any(1).all()):
        raise ConfigError(
            "model.atoms: a network that knows the atoms needs those of every crystal, found one without; "
            "give files with a structure, or use model.atoms: density"
        )
    at = atoms.positions.double()
    none = torch.zeros_like(at[..., 0])
    return Peaks(at, none, none, atoms.numbers > 0)
