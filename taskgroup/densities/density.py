"""The value that everything starts from: a charge density on a periodic grid, with its crystal."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.errors import DensityError

if TYPE_CHECKING:
    from pymatgen.core import Structure

KINDS = ("valence", "all-electron", "promolecule")


@dataclass(frozen=True, eq=False)
class Density:
    """A charge density rho(r) in e/Å^3 on a periodic grid.

    Point (i, j, k) lies at i/nx, j/ny, k/nz of the lattice vectors; the end is not included.
    ``values``: float64 [C, nx, ny, nz]; C = 1 is the total density, C = 2 adds the magnetisation (up minus down; its
    size where the spins are non-collinear). ``lattice``: [3, 3], rows are vectors, Å; it may be left-handed, but must
    span a volume. ``species``: element symbols; ``frac_coords``: [atoms, 3]. ``kind``: ``valence`` (the electrons of
    the pseudopotentials), ``all-electron`` (core electrons too; a grid cannot hold their charge exactly), or
    ``promolecule`` (free atoms). ``source``: the file it came from, or ``memory``.

    Raises DensityError where a shape is wrong, a number is not finite or the volume is zero.
    """

    values: np.ndarray
    lattice: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray
    kind: str = "valence"
    source: str = "memory"

    def __post_init__(self) -> None:
        values = self._numbers("values", self.values)
        lattice = self._numbers("lattice", self.lattice)
        species = tuple(map(str, self.species))
        frac_coords = self._numbers("frac_coords", self.frac_coords)
        if values.ndim != 4 or values.shape[0] not in (1, 2) or 0 in values.shape:
            self._refuse(
                f"values must have the shape [1 or 2, nx, ny, nz], found {list(values.shape)}"
            )
        if lattice.shape != (3, 3):
            self._refuse(f"lattice must have the shape [3, 3], found {list(lattice.shape)}")
        if abs(np.linalg.det(lattice)) < 1e-6:
            self._refuse(
                f"the lattice must span a volume, found {abs(np.linalg.det(lattice)):.3g} Å^3"
            )
        if not species or frac_coords.shape != (len(species), 3):
            self._refuse(
                f"frac_coords must have one row of 3 an atom, found {list(frac_coords.shape)} of {len(species)}"
            )
        if self.kind not in KINDS:
            self._refuse(f"kind must be one of {', '.join(KINDS)}, found '{self.kind}'")
        for name, value in (
            ("values", values),
            ("lattice", lattice),
            ("species", species),
            ("frac_coords", frac_coords),
        ):
            object.__setattr__(self, name, value)

    def _refuse(self, rule: str) -> None:
        raise DensityError(f"{self.source}: {rule}")

    def _numbers(self, name: str, given: Any) -> np.ndarray:
        try:
            array = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise DensityError(
                f"{self.source}: {name} must be an array of numbers, found {type(given).__name__}"
            ) from None
        if not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            self._refuse(
                f"{name} must be finite, found {bad} of {array.size} numbers NaN or infinite"
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
