"""A batch of crystals as views take them: densities in their cells, with the atoms where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from taskgroup.densities.elements import ATOMIC_NUMBERS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

STORED_SIGMA = 0.20
"""Width (Å) of the Gaussian that densities are smoothed with when they are stored, by default."""


@dataclass(frozen=True, eq=False)
class AtomBatch:
    """Atoms of B crystals in K places each: ``numbers`` int64 [B, K] and fractional ``positions`` [B, K, 3].

    Numbers are atomic numbers, 0 in a place without an atom.
    """

    numbers: Tensor
    positions: Tensor

    @classmethod
    def of(
        cls,
        species: Sequence[Sequence[str]],
        frac_coords: Sequence[ArrayLike],
        places: int | None = None,
    ) -> AtomBatch:
        """Return the atoms of crystals, given as symbols and fractional coordinates [atoms, 3] of each.

        ``places`` is K, by default as many as the crystal with the most atoms needs.

        >>> AtomBatch.of([("Na", "Cl"), ("Si",)], [[[0, 0, 0], [0.5, 0.5, 0.5]], [[0, 0, 0]]]).numbers
        tensor([[11, 17],
                [14,  0]])
        """
        if places is None:
            places = max(map(len, species), default=0)
        numbers = np.zeros((len(species), places), dtype=np.int64)
        positions = np.zeros((len(species), places, 3), dtype=np.float32)
        for row, (symbols, sites) in enumerate(zip(species, frac_coords, strict=True)):
            numbers[row, : len(symbols)] = [ATOMIC_NUMBERS[symbol] for symbol in symbols]
            positions[row, : len(symbols)] = sites
        return cls(torch.from_numpy(numbers), torch.from_numpy(positions))

    def __getitem__(self, index: Any) -> AtomBatch:
        return AtomBatch(self.numbers[index], self.positions[index])

    def to(self, device: torch.device | str) -> AtomBatch:
        """Return the atoms on a device."""
        return AtomBatch(self.numbers.to(device), self.positions.to(device))


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """B crystals: ``density`` [B, C, n1, n2, n3] in e/Å^3, ``lattice`` [B, 3, 3] in Å (rows are vectors), ``atoms``.

    ``atoms`` is None where nobody knows them. Views of the density alone do not look at them. ``sigma`` is the width of
    the Gaussian that the densities were smoothed with, Å.

    >>> crystals = CrystalBatch(torch.zeros(4, 1, 8, 8, 8), torch.eye(3).repeat(4, 1, 1))
    >>> len(crystals), crystals[1:3].density.shape
    (4, torch.Size([2, 1, 8, 8, 8]))
    """

    density: Tensor
    lattice: Tensor
    atoms: AtomBatch | None = None
    sigma: float = STORED_SIGMA

    @classmethod
    def of(
        cls,
        density: ArrayLike,
        lattice: ArrayLike,
        atoms: AtomBatch | None = None,
        sigma: float = STORED_SIGMA,
    ) -> CrystalBatch:
        """Return crystals of arrays of any kind, in float32 on the CPU."""
        return cls(
            torch.tensor(np.asarray(density), dtype=torch.float32),
            torch.tensor(np.asarray(lattice), dtype=torch.float32),
            atoms,
            sigma,
        )

    def __len__(self) -> int:
        return len(self.density)

    def __getitem__(self, index: Any) -> CrystalBatch:
        atoms = None if self.atoms is None else self.atoms[index]
        return CrystalBatch(self.density[index], self.lattice[index], atoms, self.sigma)

    def to(self, device: torch.device | str) -> CrystalBatch:
        """Return the crystals on a device."""
        atoms = None if self.atoms is None else self.atoms.to(device)
        return CrystalBatch(self.density.to(device), self.lattice.to(device), atoms, self.sigma)
