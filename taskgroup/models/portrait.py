"""What is in a density, and what a network sees of it: numbers, waves, and its peaks beside its atoms."""

from dataclasses import dataclass

import numpy as np
import torch

from taskgroup.densities import Density
from taskgroup.densities.atom_match import atom_agreement, misplaced_atoms_note
from taskgroup.models.peaks.finding import USUAL_PEAKS, find_peaks

# Wavelengths (Å) between which the variation of a density is summed up.
_WAVELENGTHS = (np.inf, 4.0, 2.0, 1.0, 0.5, 0.0)
# Å. An atom with a peak within this distance is found.
_FOUND = 0.3


@dataclass(frozen=True)
class Waves:
    """Share of the variation of a density in waves between two lengths (Å), and how much of it a network sees."""

    longest: float
    shortest: float
    share: float
    seen: float


@dataclass(frozen=True)
class Site:
    """One atom: fractional coordinates, density there (e/Å^3), distance (Å) and height of the nearest peak."""

    symbol: str
    frac_coords: tuple[float, float, float]
    density: float
    peak_distance: float | None
    peak_height: float | None

    @property
    def is_found(self) -> bool:
        """Whether there is a peak at the atom."""
        return self.peak_distance is not None and self.peak_distance <= _FOUND


@dataclass(frozen=True)
class Portrait:
    """A standardised density, described. ``lone_peaks`` are peaks at no atom: distance to the nearest one in Å."""

    waves: tuple[Waves, ...]
    sites: tuple[Site, ...]
    lone_peaks: tuple[float, ...]
    agreement: float
    note: str


def portrait(standard: Density, sigma: float, original: Density | None = None) -> Portrait:
    """Describe a density in standard form; ``original`` is what it was made of, where that is at hand."""
    peaks, heights = _peaks(standard)
    distances = _distances(standard.frac_coords, peaks, standard.lattice)
    sites = []
    for atom, symbol in enumerate(standard.species):
        nearest = int(distances[atom].argmin()) if len(peaks) else None
        place = tuple(float(x) for x in standard.frac_coords[atom] % 1.0)
        sites.append(
            Site(
                symbol=symbol,
                frac_coords=place,
                density=_value_at(standard, standard.frac_coords[atom]),
                peak_distance=None if nearest is None else float(distances[atom, nearest]),
                peak_height=None if nearest is None else float(heights[nearest]),
            )
        )
    to_atoms = distances.min(axis=0) if len(peaks) else np.empty(0)
    return Portrait(
        waves=_waves(original or standard, sigma if original is not None else 0.0),
        sites=tuple(sites),
        lone_peaks=tuple(float(x) for x in to_atoms if x > _FOUND),
        agreement=atom_agreement(standard),
        note=misplaced_atoms_note(standard),
    )


def _peaks(density: Density) -> tuple[np.ndarray, np.ndarray]:
    """Return fractional coordinates [P, 3] and heights [P] (e/Å^3) of the peaks that networks on peaks find."""
    values = torch.tensor(density.values[None], dtype=torch.float32)
    lattice = torch.tensor(density.lattice[None], dtype=torch.float64)
    # a large cell has more peaks than networks usually make room for
    places = max(USUAL_PEAKS, 2 * len(density.species))
    found = find_peaks(values, lattice, places=places)
    present = found.present[0].numpy()
    return found.at[0].numpy()[present], np.exp(found.height[0].numpy()[present])


def _distances(atoms: np.ndarray, peaks: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the distances (Å) [atoms, peaks] to the nearest periodic image."""
    from pymatgen.core import Lattice

    if not len(peaks):
        return np.empty((len(atoms), 0))
    return Lattice(lattice).get_all_distances(atoms, peaks)


def _value_at(density: Density, place: np.ndarray) -> float:
    """Return the density at the grid point nearest to fractional coordinates."""
    point = np.round(place * np.array(density.grid)).astype(int) % np.array(density.grid)
    return float(density.values[0][tuple(point)])


def _waves(density: Density, sigma: float) -> tuple[Waves, ...]:
    """Sum up the variation of a density by wavelength; ``sigma`` (Å) is the low-pass that networks see it through."""
    shape = density.grid
    amplitudes = np.fft.fftn(density.values[0])
    indices = np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in shape], indexing="ij")
    waves = np.stack(indices, axis=-1) @ np.linalg.inv(density.lattice).T
    lengths = 1 / np.maximum(np.linalg.norm(waves, axis=-1), 1e-12)
    # the mean is no wave
    energies = np.abs(amplitudes) ** 2
    energies[0, 0, 0] = 0.0
    kept = energies * np.exp(-((2 * np.pi * sigma / lengths) ** 2))
    total = max(float(energies.sum()), 1e-300)
    bands = []
    for longest, shortest in zip(_WAVELENGTHS, _WAVELENGTHS[1:], strict=False):
        inside = (lengths <= longest) & (lengths > shortest)
        energy = float(energies[inside].sum())
        seen = float(kept[inside].sum()) / energy if energy else 0.0
        bands.append(Waves(longest, shortest, energy / total, seen))
    return tuple(bands)
