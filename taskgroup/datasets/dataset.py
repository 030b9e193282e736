"""The Dataset: standardised densities, target table, group keys, splits and a content hash.

- Densities are float16, in memory or in a store on disk, and come out as float32; a store is read only where asked.
- The points of a row's grid follow the size of its cell, so rows come one by one or in batches of equal shape.
- The hash covers what a network can learn from: densities, lattices, targets and ids, in order. The digests of single
  densities are kept by stores, so that hashing 100,000 of them, or any subset, reads none.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets.density_rows import (
    ReadRows,
    digest_density,
    equal_shape_batches,
    to_float16,
)
from taskgroup.datasets.extensive import per_atom_table
from taskgroup.datasets.rows import Row, TorchRows, row_of
from taskgroup.datasets.splits import SPLIT_BY, Splits, make_splits
from taskgroup.datasets.target import TargetTable, row_numbers, specs_json
from taskgroup.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

_PER_ROW = ("lattices", "shapes", "formulas", "chemical_systems", "species", "frac_coords")
# The batch of an empty choice of rows has no shape of its own.
_NO_POINTS = (0, 0, 0)
# shapes in a message
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Dataset:
    """Crystals with densities and labels; made by ``load_dataset`` or ``Dataset.from_arrays``.

    Attributes:
        name, version: what a study and a bundle record, besides ``hash``.
        targets: the labels, natural units, NaN where missing; ``targets.ids`` are the rows.
        lattices: float64 [rows, 3, 3], rows are vectors, Å.
        formulas, chemical_systems: group keys per row, such as ``"NaCl"`` and ``"Cl-Na"``.
        species, frac_coords: the atoms of each row; those of a store are made when they are read.
        n_channels: densities are [C, n1, n2, n3] with C = ``n_channels``.
        shapes: int64 [rows, 3], the points n1, n2, n3 along the vectors of each row.
        grid: points along every vector, or None where they follow a spacing.
        spacing: largest distance of points in Å (``densities.spaced_grid``), or None.
        sigma: width of the Gaussian they were smoothed with, Å.
        kind: ``valence``, ``all-electron`` or ``promolecule``.
        read: source of the densities: row numbers -> list of float16 [C, n1, n2, n3].
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
    shapes: NDArray[np.int64]
    grid: int | None
    spacing: float | None
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
        densities: ArrayLike | Sequence[ArrayLike],
        lattices: ArrayLike,
        formulas: Sequence[str],
        chemical_systems: Sequence[str],
        *,
        species: Sequence[Sequence[str]] | None = None,
        frac_coords: Sequence[ArrayLike] | None = None,
        spacing: float | None = None,
        sigma: float = 0.2,
        kind: str = "valence",
        version: str = "",
    ) -> "Dataset":
        """Make a dataset in memory.

        Args:
            densities: [rows, C, n, n, n] or, with a ``spacing``, one array [C, n1, n2, n3] for each row; e/Å^3, kept
                as float16, as stores keep them.
            lattices: [rows, 3, 3], Å.
            species, frac_coords: atoms per row; none where left out.
            spacing: distance of the grid points in Å by which the numbers of points were chosen.

        Raises StoreError on ids other than the table's, shapes that disagree, or a density beyond float16.
        """
        if tuple(ids) != targets.ids:
            raise StoreError(
                f"dataset '{name}': ids must be those of the target table, in its order"
            )
        n_rows = len(ids)
        values = [to_float16(density, f"dataset '{name}'") for density in densities]
        for density in values:
            density.setflags(write=False)
        shapes = _checked_shapes(name, values, n_rows, spacing)
        cells = np.array(lattices, dtype=np.float64).reshape(-1, 3, 3)
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
            n_channels=len(values[0]),
            shapes=shapes,
            grid=None if spacing else int(shapes[0, 0]),
            spacing=spacing,
            sigma=sigma,
            kind=kind,
            read=partial(_pick_rows, values),
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: Any) -> "Row | Dataset":
        """Return one row (an integer) with density, structure and labels, or a subset (a slice, a list, a mask)."""
        if isinstance(rows, int | np.integer):
            return row_of(self, int(rows))
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        return self.subset(rows)

    def __repr__(self) -> str:
        channels = "1 channel" if self.n_channels == 1 else f"{self.n_channels} channels"
        points = f"{self.grid}^3 points"
        if self.grid is None:
            points = f"points every {self.spacing:g} Å"
        grid = f"{channels} of {points}"
        names = ", ".join(self.targets.names)
        return f"Dataset({self.name}: {len(self)} rows, {self.kind} densities, {grid}; targets {names})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self))}</p>{self.targets._repr_html_()}"

    def frame(self) -> "pd.DataFrame":
        """Return the labels by id, as ``targets.frame()`` does, after formula and chemical system of each row."""
        frame = self.targets.frame()
        frame.insert(0, "formula", self.formulas)
        frame.insert(1, "chemical_system", self.chemical_systems)
        return frame

    def torch(self) -> TorchRows:
        """Return the rows as a ``torch.utils.data.Dataset``; ``data.with_targets(...)`` and subsets have one too."""
        return TorchRows(self)

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
        """Return float32 [rows, C, n1, n2, n3] in e/Å^3 of these rows (integers or a mask), by default all.

        Raises StoreError where their grids have several shapes: ``density_batches`` reads such rows.
        """
        index = self._index(rows)
        if len(index) == 0:
            return np.zeros((0, self.n_channels, *_NO_POINTS), dtype=np.float32)
        shapes = np.unique(self.shapes[index], axis=0)
        if len(shapes) > 1:
            raise StoreError(
                f"dataset '{self.name}': densities of one array must have one shape, found {len(shapes)} shapes among "
                f"{len(index)} rows; read them with density_batches"
            )
        return np.stack(self.read(index)).astype(np.float32)

    def density_batches(
        self, rows: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield row numbers with their densities, float32 [batch, C, n1, n2, n3], in batches of one shape.

        Each row comes once, in an order of its own. A batch takes some ten megabytes, or holds a single row.
        """
        for batch in equal_shape_batches(self.shapes, self._index(rows)):
            yield batch, self.densities(batch)

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
    def atoms_hash(self) -> str:
        """sha256 (64 hex) of the atoms of all rows, which networks see with ``model.atoms: structure``."""
        digest = hashlib.sha256()
        for symbols, sites in zip(self.species, self.frac_coords, strict=True):
            digest.update(" ".join(symbols).encode() + sites.tobytes())
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
        digests = [""] * len(self)
        for batch in equal_shape_batches(self.shapes, np.arange(len(self))):
            for row, density in zip(batch, self.read(batch), strict=True):
                digests[row] = digest_density(density)
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
            shapes=self.shapes[index],
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
) -> list[NDArray[np.float16]]:
    return read(index[rows])


def _pick_rows(
    values: Sequence[NDArray[np.float16]], rows: NDArray[np.int64]
) -> list[NDArray[np.float16]]:
    return [values[row] for row in rows]


def _checked_shapes(
    name: str, values: Sequence[NDArray[np.float16]], n_rows: int, spacing: float | None
) -> NDArray[np.int64]:
    """Return the points along each axis, [rows, 3]. Raises StoreError where densities do not belong together."""
    found = sorted({density.shape for density in values})
    is_grid = all(len(shape) == 4 for shape in found)
    is_whole = len(values) == n_rows and n_rows > 0 and is_grid
    if is_whole:
        same_channels = len({shape[0] for shape in found}) == 1
        one_number = len(found) == 1 and len(set(found[0][1:])) == 1
        if same_channels and (one_number or spacing is not None):
            return np.array([density.shape[1:] for density in values], dtype=np.int64)
    wanted = "[C, n, n, n] with one n" if spacing is None else "[C, n1, n2, n3] with one C"
    raise StoreError(
        f"dataset '{name}': densities must be {wanted} for {n_rows} rows, got {len(values)} with the shapes "
        f"{[list(shape) for shape in found[:_SHOWN]]}"
    )


def _pick(items: Sequence[Any], rows: NDArray[np.int64]) -> tuple[Any, ...]:
    return tuple(items[row] for row in rows)


def as_frac_coords(sites: ArrayLike) -> NDArray[np.float64]:
    """Return fractional coordinates [atoms, 3], also of a flat list of numbers."""
    return np.array(sites, dtype=np.float64).reshape(-1, 3)
