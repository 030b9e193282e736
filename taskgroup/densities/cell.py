"""One cell for one crystal: a primitive cell that does not depend on how the crystal was described.

- The translations are found in the density itself, and the magnetisation, by their autocorrelation, and kept if the
  atoms have them too.
- The basis of the primitive cell is reduced by a rule that leaves no choice but the symmetry of the lattice; of these
  equal bases the one is taken in which the energies of the lowest Fourier coefficients have the largest weighted sum.
- Where old and new grid share their points, values are only rearranged (after taking the mean over the translations);
  elsewhere the Fourier series is summed on the new grid. Either way the electrons per volume stay what they are.
- The origin stays where it was, and so does the orientation in space.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from taskgroup.densities._reduction import reduced_bases
from taskgroup.densities._resample import gathered, resampled, shared_grid
from taskgroup.densities._translations import (
    AtomMatcher,
    Spectrum,
    Translations,
    find_translations,
)
from taskgroup.densities.density import Density
from taskgroup.errors import ConfigError, DensityError

# Å. No layer of atoms is thinner; a cell below it has a damaged lattice.
_LEAST_THICKNESS = 0.3
# Repetitions of the atoms beyond those of the density: two are enough to say so.
_MOST_COUNTED = 2
# Waves up to this index choose between equal bases.
_CHOOSING_WAVES = 3


@dataclass(frozen=True)
class CellReport:
    """What was done to bring a density to its primitive cell.

    Attributes
    ----------
    repeats: primitive cells in the cell that was given.
    n_atoms: atoms of the primitive cell.
    supercell: the repeats along each given vector; None if a centred cell or another basis was given.
    basis: the vectors of the new cell in those of the given one, [3, 3].
    resampling: ``none``, ``index`` (values rearranged) or ``spectral`` (Fourier series on a new grid).
    cut: share of the density's variation in waves that the new grid cannot hold; 0 unless spectral.
    notes: disagreements of density and atoms, and near misses.
    """

    repeats: int
    n_atoms: int
    supercell: tuple[int, int, int] | None
    basis: np.ndarray
    resampling: str
    cut: float = 0.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        atoms = "1 atom" if self.n_atoms == 1 else f"{self.n_atoms} atoms"
        parts = []
        if self.repeats > 1:
            parts.append(f"{self._size()} of {atoms}")
        elif self.resampling == "none":
            parts.append("already primitive")
        elif _is_reordering(self.basis):
            parts.append("already primitive, axes reordered")
        else:
            parts.append("basis reduced")
        return "; ".join([*parts, *self.notes])

    @property
    def note(self) -> str:
        """What a user should be told: a supercell that was reduced, or something odd; empty where nothing is."""
        if self.repeats > 1 or self.notes:
            return str(self)
        return ""

    def _size(self) -> str:
        if self.supercell is None:
            return f"{self.repeats} primitive cells"
        return "x".join(map(str, self.supercell)) + " supercell"


def primitive(density: Density, tolerance: float = 0.01) -> tuple[Density, CellReport]:
    """Return the density in its canonical primitive cell, and a report that says in words what was done.

    ``tolerance``: the largest difference between the density and its shifted self (root mean square, relative to that
    of the density around its mean) that counts as a repetition. A magnetisation must repeat too.

    Charge, magnetisation and volume per atom are conserved. Two descriptions of one crystal give the same lattice
    parameters and atoms, and the same values up to the symmetry of the lattice and the choice of origin.
    Raises DensityError for a cell thinner than 0.3 Å, ConfigError for a tolerance that is not between 0 and 1.

    >>> from taskgroup.densities import promolecule
    >>> cubic = promolecule(([[4, 0, 0], [0, 4, 0], [0, 0, 8]], ["Al", "Al"], [[0, 0, 0], [0, 0, 0.5]]), n=16)
    >>> cell, report = primitive(cubic)
    >>> print(report, len(cell.species), round(cell.charge, 6))
    2x1x1 supercell of 1 atom 1 13.0
    """
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance must be above 0 and below 1, found {tolerance}")
    _check_thickness(density)
    translations = find_translations(density, tolerance)
    numerators, denominator = _canonical_basis(density, translations)
    basis = numerators / denominator
    lattice = basis @ density.lattice
    species, frac_coords = _atoms(density, basis)
    more_by_atoms = AtomMatcher(lattice, species, frac_coords).count(most=_MOST_COUNTED)
    report = CellReport(
        repeats=len(translations.vectors) + 1,
        n_atoms=len(species),
        supercell=_supercell(numerators, denominator),
        basis=basis,
        resampling="none",
        notes=_notes(density, translations, more_by_atoms, tolerance),
    )
    if np.array_equal(basis, np.eye(3)):
        return density, report
    values, resampling, cut = _values(density, translations, numerators, denominator)
    cell = replace(
        density, values=values, lattice=lattice, species=species, frac_coords=frac_coords
    )
    return cell, replace(report, resampling=resampling, cut=cut)


def _is_reordering(basis: np.ndarray) -> bool:
    """Return whether each new vector is an old one, or its opposite."""
    sizes = np.abs(basis)
    return bool((sizes.max(axis=1) == 1).all() and (sizes.sum(axis=1) == 1).all())


def _check_thickness(density: Density) -> None:
    """Refuse a damaged lattice. Skewed vectors of a sound one may lie in planes very close to each other."""
    lattice = density.lattice
    if abs(np.linalg.det(lattice)) > _LEAST_THICKNESS**3:
        lattice = reduced_bases(lattice)[0] @ lattice
    heights = 1 / np.linalg.norm(np.linalg.pinv(lattice), axis=0)
    if heights.min() < _LEAST_THICKNESS:
        raise DensityError(
            f"{density.source}: a cell of atoms must be at least {_LEAST_THICKNESS} Å thick, "
            f"found {heights.min():.3g} Å; check the lattice vectors"
        )


def _notes(
    density: Density, translations: Translations, more_by_atoms: int, tolerance: float
) -> tuple[str, ...]:
    """Return what the user should know beyond the change of the cell.

    ``more_by_atoms``: how often the atoms alone repeat in the primitive cell.
    """
    if translations.n_density == 0:
        return ("the density is the same everywhere: the cell is kept",)
    notes = []
    repeats = len(translations.vectors) + 1
    if translations.n_density > repeats:
        notes.append(
            f"the density alone repeats {translations.n_density} times, with its atoms {repeats} times: "
            "do the atoms belong to it?"
        )
    if more_by_atoms > 1:
        what = "density and magnetisation do" if density.n_channels == 2 else "the density does"
        notes.append(f"the atoms alone would allow a smaller cell, {what} not")
        if translations.nearly is not None:
            notes.append(
                f"nearly periodic: kept (differs by {100 * translations.nearly:.2g} %, "
                f"the tolerance is {100 * tolerance:.2g} %)"
            )
    return tuple(notes)


def _canonical_basis(density: Density, translations: Translations) -> tuple[np.ndarray, int]:
    """Return the vectors of the reduced primitive cell in those of the given one: int [3, 3] over one denominator."""
    denominator = translations.denominator
    primitive_basis = _lattice_basis(translations.vectors, denominator)
    lattice = primitive_basis / denominator @ density.lattice
    bases = reduced_bases(lattice) @ primitive_basis
    if len(bases) == 1 or translations.spectrum is None:
        return bases[0], denominator
    scores = _scores(translations.spectrum, bases, denominator)
    # Bases that a symmetry of the crystal makes equal differ by rounding only: then the given one is left alone.
    equal = np.flatnonzero(scores > scores.max() - 1e-6)
    identity = denominator * np.eye(3, dtype=np.int64)
    for place in equal:
        if np.array_equal(bases[place], identity):
            return bases[place], denominator
    return bases[equal[0]], denominator


def _scores(spectrum: Spectrum, bases: np.ndarray, denominator: int) -> np.ndarray:
    """Return a weighted sum of the energies of the lowest waves in each basis; it does not depend on the origin."""
    reach = range(-_CHOOSING_WAVES, _CHOOSING_WAVES + 1)
    waves = np.array([wave for wave in itertools.product(reach, repeat=3) if any(wave)])
    # Weights without any symmetry, the same for ever: the fractional parts of multiples of an irrational number.
    weights = np.modf(np.arange(1, len(waves) + 1) * math.sqrt(2))[0]
    scores = []
    for basis in bases:
        # A wave with index k' in the new cell has index k' inverse(basis)^T in the given one: whole numbers.
        inverse = np.linalg.inv(basis / denominator)
        indices = np.round(waves @ inverse.T).astype(np.int64)
        # Where the cells share their grid points, a wave beyond the given grid looks like one that it holds.
        folded = shared_grid(basis, denominator, spectrum.grid) is not None
        energies = spectrum.energies_at(indices, folded)
        scores.append(float(weights @ energies) / max(float(energies.sum()), 1e-300))
    return np.array(scores)


def _lattice_basis(vectors: np.ndarray, denominator: int) -> np.ndarray:
    """Return three rows that generate the lattice of ``vectors`` and ``denominator`` times the unit vectors."""
    rows = [[denominator if i == j else 0 for j in range(3)] for i in range(3)]
    rows += [[int(x) for x in vector] for vector in vectors]
    basis = []
    for column in range(3):
        # Euclid's algorithm on the rows, until only one has an entry in this column.
        while True:
            active = [row for row in rows if row[column]]
            if len(active) == 1:
                break
            pivot = min(active, key=lambda row: abs(row[column]))
            for row in active:
                if row is pivot:
                    continue
                factor = row[column] // pivot[column]
                for place in range(column, 3):
                    row[place] -= factor * pivot[place]
        pivot = active[0]
        basis.append(pivot)
        rows = [row for row in rows if row is not pivot and any(row)]
    return np.array(basis, dtype=np.int64)


def _atoms(density: Density, basis: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return species and fractional coordinates of the primitive cell: the mean of the atoms that are one there."""
    matcher = AtomMatcher(density.lattice, density.species, density.frac_coords)
    n_atoms = len(density.species)
    frac_coords = density.frac_coords @ np.linalg.inv(basis)
    if abs(np.linalg.det(basis)) > 0.75:
        return density.species, frac_coords % 1.0
    # Three vectors generate all translations.
    partners = [matcher.partners(vector) for vector in basis]
    rows = np.tile(np.arange(n_atoms), len(partners))
    links = coo_array(
        (np.ones(len(rows)), (rows, np.concatenate(partners))), shape=(n_atoms, n_atoms)
    )
    orbits = connected_components(links, directed=False)[1]
    first = np.unique(orbits, return_index=True)[1]
    # Atoms of an orbit lie near the first one, up to a vector of the new cell.
    offsets = frac_coords - frac_coords[first[orbits]]
    offsets -= np.round(offsets)
    sums = np.zeros((len(first), 3))
    np.add.at(sums, orbits, offsets)
    means = frac_coords[first] + sums / np.bincount(orbits)[:, None]
    species = tuple(density.species[atom] for atom in first)
    return species, means % 1.0


def _values(
    density: Density, translations: Translations, numerators: np.ndarray, denominator: int
) -> tuple[np.ndarray, str, float]:
    """Return the values on a grid of the new cell, how they were made, and the share that was cut."""
    points = shared_grid(numerators, denominator, density.grid)
    if points is not None:
        values = gathered(density.values, numerators, denominator, points, translations.vectors)
        return values, "index", 0.0
    values, cut = resampled(density.values, numerators, denominator)
    return values, "spectral", cut


def _supercell(numerators: np.ndarray, denominator: int) -> tuple[int, int, int] | None:
    """Return how often a primitive cell repeats along each given vector, if it does so along all three."""
    inverse = np.linalg.inv(numerators / denominator)
    given_vectors = np.round(inverse).astype(np.int64)
    counts = tuple(math.gcd(*(int(x) for x in vector)) for vector in given_vectors)
    n_cells = abs(round(np.linalg.det(inverse)))
    return counts if math.prod(counts) == n_cells else None
