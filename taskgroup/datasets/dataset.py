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

from taskgroup.datasets.splits import SPLIT_BY, Splits, make_splits
from taskgroup.datasets.target import TargetTable, row_numbers, specs_json
from taskgroup.errors import ConfigError, StoreError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

ReadRows = Callable[[NDArray[np.int64]], NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Crystals with densities and labels; made by ``load_dataset`` or ``Dataset.from_arrays``.

    Attributes:
        name, version: what a study and a bundle record, besides ``hash``.
        targets: the labels, natural units, NaN where missing; ``targets.ids`` are the rows.
        lattices: float64 [rows, 3, 3], rows are vectors, Å.
        formulas, chemical_systems: group keys a row, such as ``"NaCl"`` and ``"Cl-Na"``.
        species, frac_coords: the atoms of each row; those of a store are made when looked at.
        n_channels, grid: densities are [C, n, n, n] with C = ``n_channels`` and n = ``grid``.
        sigma: width of the Gaussian they were smoothed with, Å.
        kind: ``valence``, ``all-electron`` or ``promolecule``.
        read: where densities come from: row numbers -> float16 [rows, C, n, n, n].
        density_digests: sha256 a row where already known (stores keep them).
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
        n = len(self.targets)
        for field in ("lattices", "formulas", "chemical_systems", "species", "frac_coords"):
            if len(getattr(self, field)) != n:
                raise StoreError(
                    f"dataset '{self.name}': {field} for {len(getattr(self, field))} rows, targets for {n}"
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
        species: Sequence[Sequence[str]] | None = None,
        frac_coords: Sequence[ArrayLike] | None = None,
        sigma: float = 0.2,
        kind: str = "valence",
        version: str = "",
    ) -> "Dataset":
        """A dataset in memory.

        Args:
            densities: [rows, C, n, n, n], e/Å^3; kept as float16, as stores keep them.
            lattices: [rows, 3, 3], Å.
            species, frac_coords: atoms a row; none where left out.

        Raises StoreError on ids other than the table's, shapes that disagree, or a density beyond float16.
        """
        if tuple(ids) != targets.ids:
            raise StoreError(
                f"dataset '{name}': ids must be those of the target table, in its order"
            )
        held = to_float16(densities, f"dataset '{name}'")
        cells = np.array(lattices, dtype=np.float64).reshape(-1, 3, 3)
        if held.ndim != 5 or len(held) != len(ids) or len(set(held.shape[2:])) != 1:
            raise StoreError(
                f"dataset '{name}': densities must be [{len(ids)}, C, n, n, n], got {list(held.shape)}"
            )
        for array in (held, cells):
            array.setflags(write=False)
        atoms = [[]] * len(ids) if frac_coords is None else frac_coords
        return cls(
            name=name,
            version=version,
            targets=targets,
            lattices=cells,
            formulas=tuple(formulas),
            chemical_systems=tuple(chemical_systems),
            species=tuple(map(tuple, [()] * len(ids) if species is None else species)),
            frac_coords=tuple(np.array(sites, dtype=np.float64).reshape(-1, 3) for sites in atoms),
            n_channels=held.shape[1],
            grid=held.shape[2],
            sigma=sigma,
            kind=kind,
            read=held.__getitem__,
        )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def ids(self) -> tuple[str, ...]:
        """One id a row."""
        return self.targets.ids

    def densities(self, rows: ArrayLike | None = None) -> NDArray[np.float32]:
        """float32 [rows, C, n, n, n] in e/Å^3 of these rows (integers or a mask), by default all."""
        return self.read(self._index(rows)).astype(np.float32)

    def _index(self, rows: ArrayLike | None) -> NDArray[np.int64]:
        return np.arange(len(self)) if rows is None else row_numbers(rows, len(self))

    def structure(self, row: int) -> "Structure":
        """The crystal of one row, as a pymatgen Structure."""
        from pymatgen.core import Lattice, Structure

        return Structure(
            Lattice(self.lattices[row]), list(self.species[row]), self.frac_coords[row]
        )

    def splits(self, by: str = "chemical_system", folds: int = 5, seed: int = 0) -> Splits:
        """Folds that never part a chemical system, a formula, or (``random``) a row; the same for the same rows."""
        if by not in SPLIT_BY:
            raise ConfigError(f"splits: unknown by '{by}'; {did_you_mean(by, SPLIT_BY)}")
        keys = {
            "chemical_system": self.chemical_systems,
            "formula": self.formulas,
            "random": self.ids,
        }[by]
        return make_splits(keys, by, folds, seed)

    @cached_property
    def hash(self) -> str:
        """sha256 (64 hex) of densities, lattices, targets and ids."""
        digest = hashlib.sha256(specs_json(self.targets.specs).encode())
        texts = (*self.ids, *(self.density_digests or self.digest_densities()))
        digest.update("".join(f"{text}\0" for text in texts).encode())
        # One bit pattern a value: NaN has many, and zero two.
        values = np.where(np.isnan(self.targets.values), np.nan, self.targets.values) + 0.0
        digest.update(values.astype("<f8").tobytes())
        digest.update((self.lattices + 0.0).astype("<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def inputs_hash(self) -> str:
        """sha256 (64 hex) of what networks see, densities and lattices: the same whatever the labels are."""
        digest = hashlib.sha256((self.lattices + 0.0).astype("<f8").tobytes())
        for text in self.density_digests or self.digest_densities():
            digest.update(f"{text}\0".encode())
        return digest.hexdigest()

    def digest_densities(self) -> tuple[str, ...]:
        """sha256 of every density, computed now, a few rows in memory at a time."""
        rows = np.arange(len(self))
        return tuple(
            digest_density(d)
            for at in range(0, len(rows), 64)
            for d in self.read(rows[at : at + 64])
        )

    def subset(self, rows: ArrayLike) -> "Dataset":
        """These rows only (integers or a mask); densities stay where they are."""
        kept = self._index(rows)
        digests = self.density_digests
        return replace(
            self,
            targets=self.targets.rows(kept),
            lattices=self.lattices[kept],
            **{field: _pick(getattr(self, field), kept) for field in _PER_ROW},
            read=partial(_read_some, self.read, kept),
            density_digests=None if digests is None else _pick(digests, kept),
        )

    def with_targets(self, names: Iterable[str]) -> "Dataset":
        """The same rows with these targets only."""
        return replace(self, targets=self.targets.select(names))

    def with_labels_cut(
        self, target: str, n: int, seed: int = 0, rows: ArrayLike | None = None
    ) -> "Dataset":
        """All but ``n`` labels of one target taken away among ``rows`` (such as a split's training rows).

        What stays is drawn by ``seed``, and a smaller ``n`` keeps a part of what a larger one keeps. Raises ConfigError
        where there are fewer than ``n`` labels.
        """
        column = self.targets.names.index(self.targets.spec(target).name)
        values = self.targets.values.copy()
        index = self._index(rows)
        labelled = index[~np.isnan(values[index, column])]
        if not 0 <= n <= len(labelled):
            raise ConfigError(f"target '{target}': cannot keep {n} labels of {len(labelled)}")
        values[np.random.default_rng(seed).permutation(labelled)[n:], column] = np.nan
        return replace(self, targets=TargetTable(self.targets.specs, self.ids, values))


_PER_ROW = ("formulas", "chemical_systems", "species", "frac_coords")


def _read_some(
    read: ReadRows, kept: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    return read(kept[rows])


def _pick(items: Sequence[Any], rows: NDArray[np.int64]) -> tuple[Any, ...]:
    return tuple(items[i] for i in rows)


def to_float16(values: ArrayLike, what: str) -> NDArray[np.float16]:
    """As float16. Raises StoreError where a value is not finite, or beyond what float16 holds (65504)."""
    array = np.asarray(values)
    largest = np.abs(array).max(initial=0)
    if not largest <= np.finfo(np.float16).max:  # also where NaN
        raise StoreError(
            f"{what}: densities are stored as float16, up to 65504 e/Å^3, got {largest:g}"
        )
    return array.astype(np.float16)


def digest_density(density: NDArray[np.float16]) -> str:
    """sha256 of one density [C, n, n, n]; a magnetisation of zeros counts as none, as one channel says the same."""
    channels = density if len(density) > 1 and density[1:].any() else density[:1]
    return hashlib.sha256((channels + np.float16(0)).astype("<f2").tobytes()).hexdigest()
