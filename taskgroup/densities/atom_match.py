"""Whether the atoms of a file lie where its density has its peaks.

A density beside the atoms of another crystal, or of another origin, has a sound charge and a sound grid. But shifted by
some vector it would fit its atoms better than it does where it stands.
"""

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.elements import ATOMIC_NUMBERS
from taskgroup.densities.standardise import squared_waves

# Å. Atoms are smeared by it: a pseudo-density may have a dip at a nucleus, and its maximum around it.
_WIDTH = 0.3
# Of the mean. The valence electrons of lithium or aluminium are nearly free, and least dense at the nuclei.
_LEAST_CONTRAST = 1.0
# Half of the least agreement of 278 sound crystals (GaN as rock salt, 0.10; their median is 1). Of atoms that were
# shifted at random it finds four of five; the others lie near other peaks.
_LEAST_AGREEMENT = 0.05


def atom_agreement(density: Density) -> float:
    """Return how well the atoms fit the density: 1 where no shift fits better, 0 where a random one fits as well.

    That is the density at the atoms, smeared and weighted with the atomic numbers, over its largest value for any
    common shift of the atoms, both less the mean over all shifts. It may be negative.
    """
    values = density.values[0]
    shape = values.shape
    waves = np.fft.rfftn(values) * np.conj(np.fft.rfftn(_atoms_on_grid(density)))
    first, second = (np.fft.fftfreq(n, 1 / n) for n in shape[:2])
    squares = squared_waves(
        [first, second, np.fft.rfftfreq(shape[2], 1 / shape[2])], density.lattice
    )
    fits = np.fft.irfftn(waves * np.exp(-(_WIDTH**2) / 2 * squares), shape, axes=(0, 1, 2))
    best = float(fits.max() - fits.mean())
    if best <= 0:
        return 0.0
    return float(fits[0, 0, 0] - fits.mean()) / best


def misplaced_atoms_note(density: Density) -> str:
    """Return a note where the atoms do not fit the density; '' where they do, or where no peaks stand out."""
    values = density.values[0]
    if values.std() < _LEAST_CONTRAST * values.mean():
        return ""
    agreement = atom_agreement(density)
    if agreement >= _LEAST_AGREEMENT:
        return ""
    return (
        f"the atoms do not lie where the density has its peaks (agreement {agreement:.2f}, 1 is best): "
        "are they those of another crystal, or of another origin?"
    )


def _atoms_on_grid(density: Density) -> np.ndarray:
    """Return a grid that holds each atom's number, shared among the eight points around it."""
    shape = np.array(density.grid)
    weights = np.array([ATOMIC_NUMBERS[symbol] for symbol in density.species], dtype=float)
    places = (density.frac_coords % 1.0) * shape
    corners = np.floor(places).astype(int)
    shares = places - corners
    grid = np.zeros(density.grid)
    for corner in np.ndindex(2, 2, 2):
        share = np.where(corner, shares, 1 - shares).prod(axis=1)
        points = (corners + corner) % shape
        np.add.at(grid, tuple(points.T), weights * share)
    return grid
