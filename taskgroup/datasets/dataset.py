"""The Dataset: standardised densities, target table, group keys, splits and a content hash.

- Densities are float16, in memory or in a store on disk, and come out as float32; a store is read only where asked.
- The hash covers what a network can learn from: densities, lattices, targets and ids, in order. The digests of single
  densities are kept by stores, so that hashing 100,000 of them, or any subset, reads none.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets.extensive import per_atom_table
from taskgroup.datasets.splits import SPLIT_BY, Splits, make_splits
from taskgroup.datasets.target import TargetTable, row_numbers, specs_json
from taskgroup.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

ReadRows = Callable[[NDArray[np.int64]], NDArray[np.float16]]

_PER_ROW = ("lattices", "formulas", "chemical_systems", "species", "frac_coords")
# Densities in memory at a time while digests are computed: 8 MB at two channels of 32^3.
_DIGEST_BATCH = 64


@dataclass(frozen=True, eq=False)
class Dataset:
    """Crystals with densities and labels; made by ``load_dataset`` or ``Dataset.from_arrays``.

    Attributes:
        name, version: what a study and a bundle record, besides ``hash``.
        targets: the labels, natural units, NaN where missing; ``targets.ids`` are the rows.
        lattices: float64 [rows, 3, 3], rows are vectors, Å.
        formulas, chemical_systems: group keys per row, such as ``"NaCl"`` and ``"Cl-Na"``.
        species, frac_coords: the atoms of each row; those of a store are made when they are read.
        n_channels, grid: densities are [C, n, n, n] with C = ``n_channels`` and n = ``grid``.
        sigma: width of the Gaussian they were smoothed with, Å.
        kind: ``valence``, ``all-electron`` or ``promolecule``.
        read: source of the densities: row numbers -> float16 [rows, C, n, n, n].
        density_digests: sha256 per row where already computed (stores keep them).
    """

    name: str
    version: str
    targets: TargetTable
    lattices: NDArray[np.float64]
    formulas: tuple[str, ...]
    chemical_systems: tuple[str, ...]
    species: Sequence[tuple[str, ...]]
    frac_coords: Sequence[NDArray[np.float64]]
    n_channels: int
    grid: int
    sigma: float
    kind: str
    read: ReadRows
    density_digests: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n_rows = len(self.targets)
        for field in _PER_ROW:
            n_values = len(getattr(self, field))
            if n_values != n_rows:
                raise StoreError(
                    f"dataset '{self.name}': {field} for {n_values} rows, targets for {n_rows}"
                )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        ids: Sequence[str],
        targets: TargetTable,
        densities: ArrayLike,
        lattices: ArrayLike,
        formulas: Sequence[str],
        chemical_systems: Sequence[str],
        *,
        species: Sequence[Sequence[str]] | None = None,
        frac_coords: Sequence[ArrayLike] | None = None,
        sigma: float = 0.2,
        kind: str = "valence",
        version: str = "",
    ) -> "Dataset":
        """Make a dataset in memory.

        Args:
            densities: [rows, C, n, n, n], e/Å^3; kept as float16, as stores keep them.
            lattices: [rows, 3, 3], Å.
            species, frac_coords: atoms per row; none where left out.

        Raises StoreError on ids other than the table's, shapes that disagree, or a density beyond float16.
        """
        if tuple(ids) != targets.ids:
            raise StoreError(
                f"dataset '{name}': ids must be those of the target table, in its order"
            )
        n_rows = len(ids)
        values = to_float16(densities, f"dataset '{name}'")
        cells = np.array(lattices, dtype=np.float64).reshape(-1, 3, 3)
        is_cubic = values.ndim == 5 and len(set(values.shape[2:])) == 1
        if not is_cubic or len(values) != n_rows:
            raise StoreError(
                f"dataset '{name}': densities must be [{n_rows}, C, n, n, n], "
                f"got {list(values.shape)}"
            )
        values.setflags(write=False)
        cells.setflags(write=False)
        if species is None:
            species = [()] * n_rows
        if frac_coords is None:
            frac_coords = [[]] * n_rows
        return cls(
            name=name,
            version=version,
            targets=targets,
            lattices=cells,
            formulas=tuple(formulas),
            chemical_systems=tuple(chemical_systems),
            species=tuple(tuple(symbols) for symbols in species),
            frac_coords=tuple(as_frac_coords(sites) for sites in frac_coords),
            n_channels=values.shape[1],
            grid=values.shape[2],
            sigma=sigma,
            kind=kind,
            read=values.__getitem__,
        )

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def learnt_targets(self) -> TargetTable:
        """The labels that networks learn: those of extensive targets per atom, all others as they are."""
        return per_atom_table(self.targets, self.species)

    @property
    def ids(self) -> tuple[str, ...]:
        """One id per row."""
        return self.targets.ids

    @cached_property
    def most_atoms(self) -> int:
        """Atoms of the row with the most; 0 where the atoms are not known."""
        return max(map(len, self.species), default=0)

    def densities(self, rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return float32 [rows, C, n, n, n] in e/Å^3 of these rows (integers or a mask), by default all."""
        return self.read(self._index(rows)).astype(np.float32)

    def _index(self, rows: ArrayLike | None) -> NDArray[np.int64]:
        if rows is None:
            return np.arange(len(self))
        return row_numbers(rows, len(self))

    def structure(self, row: int) -> "Structure":
        """Return the crystal of one row, as a pymatgen Structure."""
        from pymatgen.core import Lattice, Structure

        lattice = Lattice(self.lattices[row])
        return Structure(lattice, list(self.species[row]), self.frac_coords[row])

    def splits(self, by: str = "chemical_system", folds: int = 5, seed: int = 0) -> Splits:
        """Return folds that never part a chemical system, a formula, or (``random``) a row.

        They are the same for the same rows and seed.
        """
        if by not in SPLIT_BY:
            raise ConfigError(f"splits: unknown by '{by}'; {did_you_mean(by, SPLIT_BY)}")
        keys_by_name = {
            "chemical_system": self.chemical_systems,
            "formula": self.formulas,
            "random": self.ids,
        }
        return make_splits(keys_by_name[by], by, folds, seed)

    @cached_property
    def hash(self) -> str:
        """sha256 (64 hex) of densities, lattices, targets and ids."""
        digest = hashlib.sha256(specs_json(self.targets.specs).encode())
        for text in (*self.ids, *self._digests()):
            digest.update(f"{text}\0".encode())
        # NaN has many bit patterns, and zero has two: one of each is hashed.
        values = np.where(np.isnan(self.targets.values), np.nan, self.targets.values) + 0.0
        digest.update(values.astype("<f8").tobytes())
        digest.update(self._lattice_bytes())
        return digest.hexdigest()

    @cached_property
    def inputs_hash(self) -> str:
        """sha256 (64 hex) of what networks see, densities and lattices: the same whatever the labels are."""
        digest = hashlib.sha256(self._lattice_bytes())
        for text in self._digests():
            digest.update(f"{text}\0".encode())
        return digest.hexdigest()

    def _lattice_bytes(self) -> bytes:
        # adding zero turns -0.0 into 0.0
        return (self.lattices + 0.0).astype("<f8").tobytes()

    def _digests(self) -> tuple[str, ...]:
        return self.density_digests or self.digest_densities()

    def digest_densities(self) -> tuple[str, ...]:
        """Compute the sha256 of every density now, a few rows in memory at a time."""
        rows = np.arange(len(self))
        digests: list[str] = []
        for start in range(0, len(rows), _DIGEST_BATCH):
            batch = self.read(rows[start : start + _DIGEST_BATCH])
            digests += map(digest_density, batch)
        return tuple(digests)

    def subset(self, rows: ArrayLike) -> "Dataset":
        """Return these rows only (integers or a mask); densities stay where they are."""
        index = self._index(rows)
        digests = self.density_digests
        if digests is not None:
            digests = _pick(digests, index)
        return replace(
            self,
            targets=self.targets.rows(index),
            lattices=self.lattices[index],
            formulas=_pick(self.formulas, index),
            chemical_systems=_pick(self.chemical_systems, index),
            species=_pick(self.species, index),
            frac_coords=_pick(self.frac_coords, index),
            read=partial(_read_subset, self.read, index),
            density_digests=digests,
        )

    def with_targets(self, names: Iterable[str]) -> "Dataset":
        """Return the same rows with these targets only."""
        return replace(self, targets=self.targets.select(names))

    def with_labels_cut(
        self, target: str, n: int, seed: int = 0, rows: ArrayLike | None = None
    ) -> "Dataset":
        """Take away all but ``n`` labels of one target among ``rows`` (such as a split's training rows).

        What stays is drawn by ``seed``, and a smaller ``n`` keeps a part of what a larger one keeps. Raises ConfigError
        where there are fewer than ``n`` labels.
        """
        column = self.targets.names.index(self.targets.spec(target).name)
        values = self.targets.values.copy()
        index = self._index(rows)
        labelled = index[~np.isnan(values[index, column])]
        if not 0 <= n <= len(labelled):
            raise ConfigError(f"target '{target}': cannot keep {n} labels of {len(labelled)}")
        shuffled = np.random.default_rng(seed).permutation(labelled)
        values[shuffled[n:], column] = np.nan
        return replace(self, targets=TargetTable(self.targets.specs, self.ids, values))


def _read_subset(
    read: ReadRows, index: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    return read(index[rows])


def _pick(items: Sequence[Any], rows: NDArray[np.int64]) -> tuple[Any, ...]:
    return tuple(items[row] for row in rows)


def as_frac_coords(sites: ArrayLike) -> NDArray[np.float64]:
    """Return fractional coordinates [atoms, 3], also of a flat list of numbers."""
    return np.array(sites, dtype=np.float64).reshape(-1, 3)


def to_float16(values: ArrayLike, what: str) -> NDArray[np.float16]:
    """Return values as float16. Raises StoreError: a value is not finite, or beyond what float16 holds (65504)."""
    array = np.asarray(values)
    largest = np.abs(array).max(initial=0)
    # written so that it is also true of NaN
    if not largest <= np.finfo(np.float16).max:
        raise StoreError(
            f"{what}: densities are stored as float16, up to 65504 e/Å^3, got {largest:g}"
        )
    return array.astype(np.float16)


def digest_density(density: NDArray[np.float16]) -> str:
    """Return the sha256 of one density [C, n, n, n].

    A magnetisation of zeros is left out, as a density of one channel says the same.
    """
    channels = density[:1]
    if density[1:].any():
        channels = density
    return hashlib.sha256((channels + np.float16(0)).astype("<f2").tobytes()).hexdigest()
