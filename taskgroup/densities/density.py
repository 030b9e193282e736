"""The value that everything starts from: a charge density on a periodic grid, with its crystal."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from taskgroup.densities.elements import SYMBOLS, is_element
from taskgroup.errors import DensityError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

KINDS = ("valence", "all-electron", "promolecule")

# Å^3. No cell of atoms is so small; a determinant below it comes from vectors in one plane.
_SMALLEST_VOLUME = 1e-6


@dataclass(frozen=True, eq=False)
class Density:
    """A charge density rho(r) in e/Å^3 on a periodic grid.

    Point (i, j, k) lies at i/nx, j/ny, k/nz of the lattice vectors; the end is not included.

    Attributes
    ----------
    values: float64 [C, nx, ny, nz]; C = 1 is the total density, C = 2 adds the magnetisation (up minus down; its size
        where the spins are non-collinear).
    lattice: [3, 3], rows are vectors, Å; it may be left-handed, but must span a volume.
    species: element symbols, one per atom.
    frac_coords: [atoms, 3].
    kind: ``valence`` (the electrons of the pseudopotentials), ``all-electron`` (core electrons too; a grid cannot hold
        their charge exactly), or ``promolecule`` (free atoms).
    source: the file it came from, or ``memory``.

    Raises DensityError if a shape is wrong, a number is not finite, the volume is zero or a species is no element.
    """

    values: np.ndarray
    lattice: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray
    kind: str = "valence"
    source: str = "memory"

    def __post_init__(self) -> None:
        # The dataclass is frozen, so the converted fields are set past its guard.
        object.__setattr__(self, "values", self._numbers("values", self.values))
        object.__setattr__(self, "lattice", self._numbers("lattice", self.lattice))
        object.__setattr__(self, "species", tuple(map(str, self.species)))
        object.__setattr__(self, "frac_coords", self._numbers("frac_coords", self.frac_coords))
        self._check_grid()
        self._check_crystal()
        if self.kind not in KINDS:
            self._refuse(f"kind must be one of {', '.join(KINDS)}, found '{self.kind}'")

    def _check_grid(self) -> None:
        shape = self.values.shape
        if len(shape) != 4 or shape[0] not in (1, 2) or 0 in shape:
            self._refuse(f"values must have the shape [1 or 2, nx, ny, nz], found {list(shape)}")

    def _check_crystal(self) -> None:
        if self.lattice.shape != (3, 3):
            self._refuse(f"lattice must have the shape [3, 3], found {list(self.lattice.shape)}")
        if self.volume < _SMALLEST_VOLUME:
            self._refuse(f"the lattice must span a volume, found {self.volume:.3g} Å^3")
        n_atoms = len(self.species)
        if n_atoms == 0 or self.frac_coords.shape != (n_atoms, 3):
            shape = list(self.frac_coords.shape)
            self._refuse(
                f"frac_coords must have one row of 3 an atom, found {shape} of {n_atoms} atoms"
            )
        for symbol in self.species:
            if not is_element(symbol):
                near = did_you_mean(symbol, SYMBOLS) if len(symbol) > 1 else "a symbol is needed"
                self._refuse(f"every species must be an element, found '{symbol}'; {near}")

    def _refuse(self, rule: str) -> NoReturn:
        raise DensityError(f"{self.source}: {rule}")

    def _numbers(self, name: str, given: Any) -> np.ndarray:
        """Return an array of finite float64, or refuse it under its name."""
        try:
            array = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            kind = type(given).__name__
            raise DensityError(
                f"{self.source}: {name} must be an array of numbers, found {kind}"
            ) from None
        finite = np.isfinite(array)
        if not finite.all():
            n_bad = array.size - int(finite.sum())
            self._refuse(
                f"{name} must be finite, found {n_bad} of {array.size} numbers NaN or infinite"
            )
        return array

    @property
    def volume(self) -> float:
        """The volume of the cell, Å^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def charge(self) -> float:
        """The integral of the total density over the cell: the number of electrons, sum(rho) V / N."""
        return float(self.values[0].mean() * self.volume)

    @property
    def grid(self) -> tuple[int, int, int]:
        """The number of points along each lattice vector."""
        return self.values.shape[1:]

    @property
    def n_channels(self) -> int:
        """1 (total) or 2 (total, magnetisation)."""
        return self.values.shape[0]

    @property
    def structure(self) -> "Structure":
        """The crystal as a pymatgen structure."""
        from pymatgen.core import Structure

        return Structure(self.lattice, list(self.species), self.frac_coords)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.grid))
        return f"Density({self.source}: {self.n_channels} x [{size}], {self.kind}, {self.charge:.4f} electrons)"
