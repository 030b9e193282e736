"""The translations that leave a density, and its atoms, as they are.

A translation t (in fractions of the cell's vectors) turns the Fourier coefficients F(k) by exp(2 pi i k.t). The
relative difference of the density and its shifted self is therefore sqrt(2 (1 - A(t))), where the autocorrelation
A(t) = sum_k |F(k)|^2 cos(2 pi k.t) / sum_k |F(k)|^2 (without k = 0) needs no interpolation, wherever t lies between
the grid points.

All translations of a cell that holds n primitive cells are multiples of 1/q, where q divides n. For each such q the
energies |F(k)|^2 are summed by the remainder of k modulo q, and one Fourier transform of these q^3 sums gives A at all
multiples of 1/q at once.
"""

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import fft
from scipy.spatial import cKDTree

from taskgroup.densities.density import Density

# Å. Atoms that a translation brings closer to each other than this are taken as one; relaxed supercells differ by less
# than a hundredth of it.
_ATOM_TOLERANCE = 0.1
# Cells whose atoms allow no repetition are searched for these all the same, to tell the user if they disagree.
_ALWAYS_TRIED = (2, 3)
# A crystal whose smallest difference is below so many tolerances is called nearly periodic.
_NEARLY = 10
# The largest q. Sums of 64^3 remainders take a tenth of a second; a longer chain of one kind is kept as it is.
_LARGEST_ORDER = 64
# Electrons per atom. A magnetisation whose absolute integral is below it is the noise of a non-magnetic crystal.
_LEAST_MOMENT = 0.01


@dataclass(frozen=True)
class Spectrum:
    """Energies of one field's Fourier coefficients, index 0 and up along the last axis, mirror waves added."""

    energies: np.ndarray
    grid: tuple[int, int, int]
    total: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spectrum":
        waves = fft.rfftn(values, norm="forward")
        energies = np.square(waves.real) + np.square(waves.imag)
        # All but the first plane, and the last of an even grid, stand for themselves and their mirror.
        n_last = values.shape[2]
        energies[:, :, 1 : (n_last + 1) // 2] *= 2
        energies[0, 0, 0] = 0
        return cls(energies, values.shape, float(energies.sum()))

    def energies_at(self, indices: np.ndarray, folded: bool) -> np.ndarray:
        """Return |F(k)|^2 at wave indices, int [n, 3]; those that the grid cannot hold have none.

        ``folded``: they count as the waves that have the same values on the grid.
        """
        grid = np.array(self.grid)
        if folded:
            indices = indices - grid * np.round(indices / grid).astype(np.int64)
        held = (2 * np.abs(indices) <= grid).all(axis=1)
        mirrored = np.where(indices[:, 2:] < 0, -indices, indices)
        place = tuple((mirrored[held] % grid).T)
        energies = np.zeros(len(indices))
        energies[held] = self.energies[place]
        # Entries between the first plane and the last of an even grid stand for two waves.
        doubled = (mirrored[:, 2] > 0) & (2 * mirrored[:, 2] < self.grid[2])
        energies[doubled] /= 2
        return energies

    def differences(self, order: int) -> np.ndarray:
        """Return the relative difference for the translations (i, j, k) / order: [order, order, order]."""
        sums = self.energies
        for axis in range(3):
            sums = _sums_by_remainder(sums, axis, self.grid[axis], order)
        # The mirror waves have the opposite remainder, but the cosine does not tell them apart.
        autocorrelation = fft.fftn(sums).real / self.total
        return np.sqrt(np.maximum(2 * (1 - autocorrelation), 0))


def _sums_by_remainder(energies: np.ndarray, axis: int, points: int, order: int) -> np.ndarray:
    """Return the sums over an axis of those entries whose wave index has the same remainder modulo ``order``."""
    n_entries = energies.shape[axis]
    index = np.arange(n_entries)
    if n_entries == points:
        # The upper half of a full axis holds the negative indices.
        index = np.where(2 * index > points, index - points, index)
    matrix = np.zeros((order, n_entries))
    matrix[index % order, np.arange(n_entries)] = 1
    if points % 2 == 0:
        # The highest wave of an even grid is half of index n/2 and half of index -n/2.
        place = points // 2
        matrix[:, place] = 0
        matrix[place % order, place] += 0.5
        matrix[-place % order, place] += 0.5
    return np.moveaxis(np.tensordot(matrix, energies, axes=(1, axis)), 0, axis)


@dataclass(frozen=True)
class Translations:
    """The translations shared by a density and its atoms, as rows of whole numbers over one denominator.

    Attributes
    ----------
    vectors: int [n, 3], without the zero vector; translation i is vectors[i] / denominator.
    denominator: the least common multiple of their orders.
    nearly: the smallest relative difference above the tolerance, where it is below ten times the tolerance, or None.
    n_density: translations of the density, the zero vector included, whether or not the atoms have them; 0 for a
        density that is the same everywhere.
    spectrum: of the total density; None for a density that is the same everywhere.
    """

    vectors: np.ndarray
    denominator: int
    nearly: float | None
    n_density: int
    spectrum: Spectrum | None


def find_translations(density: Density, tolerance: float) -> Translations:
    """Return the translations of a density (and its magnetisation) that its atoms have too.

    ``tolerance``: the largest root mean square difference between the density and its shifted self, relative to the
    root mean square of the density around its mean.
    """
    spectra = _spectra(density)
    if not spectra:
        return Translations(np.zeros((0, 3), dtype=np.int64), 1, None, 0, None)
    atoms = AtomMatcher(density.lattice, density.species, density.frac_coords)
    groups = [np.zeros((1, 3), dtype=np.int64)]
    orders = [1]
    nearly: list[float] = []
    n_density = 1
    for prime in _primes_to_try(_greatest_common_count(density.species)):
        order = 1
        group = groups[0]
        n_found = 1
        # A longer order is tried as long as the last one brought more translations.
        while order * prime <= _LARGEST_ORDER:
            differences = _largest_differences(spectra, order * prime)
            is_shift = differences < tolerance
            is_near = (differences < _NEARLY * tolerance) & ~is_shift
            nearly += differences[is_near].tolist()
            n_found = max(n_found, int(is_shift.sum()))
            larger = atoms.shared(np.argwhere(is_shift), order * prime)
            # Sums of translations at the edge of the tolerance may lie beyond it.
            if not is_shift[tuple(larger.T)].all():
                nearly.append(tolerance)
                break
            if len(larger) == len(group):
                break
            order *= prime
            group = larger
        groups.append(group)
        orders.append(order)
        n_density *= n_found
    vectors, denominator = _joined(groups, orders)
    return Translations(vectors, denominator, min(nearly, default=None), n_density, spectra[0])


def _spectra(density: Density) -> list[Spectrum]:
    """Return the spectra of the total density and, in a magnetic crystal, of the magnetisation."""
    fields = [density.values[0]]
    if density.n_channels == 2:
        moment = float(np.abs(density.values[1]).mean()) * density.volume
        if moment > _LEAST_MOMENT * len(density.species):
            fields.append(density.values[1])
    spectra = []
    for field in fields:
        spectrum = Spectrum.of(field)
        # A field without any wave is the same everywhere and says nothing.
        scale = float(np.square(field).mean())
        if spectrum.total > 1e-20 * scale:
            spectra.append(spectrum)
    return spectra


def _largest_differences(spectra: list[Spectrum], order: int) -> np.ndarray:
    return reduce(np.maximum, [spectrum.differences(order) for spectrum in spectra])


def _greatest_common_count(species: tuple[str, ...]) -> int:
    counts = [species.count(symbol) for symbol in set(species)]
    return math.gcd(*counts)


def _primes_to_try(number: int) -> list[int]:
    """Return the prime factors of a number, and those that are always tried."""
    primes = set(_ALWAYS_TRIED)
    rest = number
    divisor = 2
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            primes.add(divisor)
            rest //= divisor
        divisor += 1
    if rest > 1:
        primes.add(rest)
    return sorted(prime for prime in primes if prime <= _LARGEST_ORDER)


def _joined(groups: list[np.ndarray], orders: list[int]) -> tuple[np.ndarray, int]:
    """Return all sums of translations of the different orders but zero, and their common denominator."""
    denominator = math.lcm(*orders)
    sums = np.zeros((1, 3), dtype=np.int64)
    for group, order in zip(groups, orders, strict=True):
        scaled = group * (denominator // order)
        sums = (sums[:, None] + scaled[None]).reshape(-1, 3) % denominator
    return sums[sums.any(axis=1)], denominator


class AtomMatcher:
    """Finds out which translations bring every atom to an atom of its element."""

    def __init__(
        self, lattice: np.ndarray, species: tuple[str, ...], frac_coords: np.ndarray
    ) -> None:
        self.lattice = lattice
        self.frac_coords = frac_coords % 1.0
        # A coordinate just below 1 may round to 1, which the tree's periodic box does not hold.
        self.frac_coords[self.frac_coords >= 1.0] = 0.0
        self.numbers = np.unique(np.array(species), return_inverse=True)[1]
        self._tree = cKDTree(self.frac_coords, boxsize=1.0)

    def count(self, most: int) -> int:
        """Return how many translations the atoms have, the zero vector included; counting ends at ``most``."""
        rarest = np.bincount(self.numbers).argmin()
        members = self.frac_coords[self.numbers == rarest]
        n_translations = 0
        for member in members:
            if self.partners(member - members[0]) is not None:
                n_translations += 1
            if n_translations == most:
                break
        return n_translations

    def partners(self, translation: np.ndarray) -> np.ndarray | None:
        """Return the atom to which each atom is brought, [atoms], or None if one finds no partner."""
        shifted = (self.frac_coords + translation) % 1.0
        shifted[shifted >= 1.0] = 0.0
        # A few atoms first: most wrong translations fail there.
        for rows in (slice(0, 4), slice(None)):
            partners = self._tree.query(shifted[rows])[1]
            if not self._match(shifted[rows], self.numbers[rows], partners):
                return None
        if len(np.unique(partners)) < len(partners):
            return None
        return partners

    def _match(self, shifted: np.ndarray, numbers: np.ndarray, partners: np.ndarray) -> bool:
        if (self.numbers[partners] != numbers).any():
            return False
        offsets = shifted - self.frac_coords[partners]
        offsets -= np.round(offsets)
        distances = np.linalg.norm(offsets @ self.lattice, axis=1)
        return bool((distances < _ATOM_TOLERANCE).all())

    def shared(self, vectors: np.ndarray, order: int) -> np.ndarray:
        """Return the group that those of the translations vectors / order generate which the atoms have: int [n, 3]."""
        group = np.zeros((1, 3), dtype=np.int64)
        members = {(0, 0, 0)}
        for vector in vectors:
            # Sums of translations that the atoms have need no look at the atoms.
            if tuple(vector.tolist()) in members or self.partners(vector / order) is None:
                continue
            multiples = np.arange(order)[:, None, None] * vector
            sums = (group[None] + multiples).reshape(-1, 3) % order
            group = np.unique(sums, axis=0)
            members = set(map(tuple, group.tolist()))
        return group
