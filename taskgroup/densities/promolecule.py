"""Densities without DFT: free atoms laid over each other.

    rho(G) = 1/V sum_j f_j(|G| / 4 pi) exp(-i G r_j) exp(-sigma^2 |G|^2 / 2)

with the atomic form factors f that pymatgen carries (four Gaussians an element; M. De Graef, M. E. McHenry, Structure
of Materials, Cambridge 2012, chapters 11 and 12). They are fits of electron scattering turned into X-ray form
factors by the Mott-Bethe relation, f(s) = Z - 41.78214 s^2 sum_k a_k exp(-b_k s^2), with s = |G| / 4 pi in 1/Å. So
f(0) = Z holds exactly and the charge of a promolecule is the sum of its atomic numbers. Beyond the range of the fit
the formula turns up again, back to Z, which no atom does: from its minimum on f is kept constant.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from taskgroup.densities.density import Density
from taskgroup.densities.elements import ATOMIC_NUMBERS
from taskgroup.densities.standardise import (
    held_indices,
    squared_waves,
    standard_grid,
)
from taskgroup.errors import DensityError, did_you_mean

if TYPE_CHECKING:
    from pymatgen.core import Structure

# 8 pi^2 times the Bohr radius in Å, in the digits the fits were made with.
_MOTT_BETHE = 41.78214
# Values of s in 1/Å between which the minimum of a fit is looked for: all fits are made for s below 2.
_S_GRID = np.linspace(0, 2, 2001)
# Of one element, summed in one product of matrices: 10 MB on 100 x 100 points.
_ATOMS_AT_A_TIME = 64


def promolecule(
    structure: "Structure | tuple[Any, Sequence[str], Any]",
    n: int | None = 32,
    sigma: float = 0.20,
    source: str = "memory",
    *,
    spacing: float | None = None,
) -> Density:
    """Return the density of a crystal's free atoms on a standard grid, low-passed with a Gaussian of ``sigma`` Å.

    The grid has n x n x n points or, with ``spacing`` (Å), as many along each vector as ``spaced_grid`` gives.
    ``structure``: a pymatgen structure or (lattice [3, 3] Å, species, frac_coords [atoms, 3]). The result is of kind
    ``promolecule``, on the same grid and with the same width as ``standardise`` gives; its charge is the sum of the
    atomic numbers. Raises DensityError for a disordered site or an element without form factor (beyond Cf).

    >>> salt = ([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> round(promolecule(salt, n=16).charge, 9)
    28.0
    """
    lattice, species, frac_coords = crystal_parts(structure, source)
    # A density without values checks the crystal before anything is computed.
    crystal = Density(np.zeros((1, 1, 1, 1)), lattice, species, frac_coords, "promolecule", source)
    grid = standard_grid(crystal.lattice, n, sigma, spacing)
    indices = [held_indices(points) for points in grid]
    # A real field needs no negative indices along its last axis.
    indices[2] = indices[2][indices[2] >= 0]
    squared = squared_waves(indices, crystal.lattice)
    s_squared = squared / (4 * np.pi) ** 2
    symbols = np.array(crystal.species)
    waves = np.zeros(squared.shape, dtype=complex)
    for symbol in sorted(set(crystal.species)):
        positions = crystal.frac_coords[symbols == symbol]
        waves += form_factor(symbol, s_squared, source) * _phases(positions, indices)
    waves *= np.exp(-0.5 * sigma**2 * squared) / crystal.volume
    full = np.zeros((grid[0], grid[1], grid[2] // 2 + 1), dtype=complex)
    places = [index % points for index, points in zip(indices, grid, strict=True)]
    full[np.ix_(*places)] = waves
    values = fft.irfftn(full, s=grid, norm="forward")
    return replace(crystal, values=values[None])


def crystal_parts(
    structure: Any, source: str = "memory"
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Return (lattice, element symbols, fractional coordinates) of a pymatgen structure or of such a triple."""
    if not hasattr(structure, "lattice"):
        lattice, species, frac_coords = structure
        return lattice, tuple(species), frac_coords
    if not structure.is_ordered:
        raise DensityError(
            f"{source}: every site must hold one element, found the disordered {structure.formula}"
        )
    symbols = []
    for site in structure:
        # A species may carry a charge or a spin ("Fe3+"); its element is what has a form factor.
        element = getattr(site.specie, "element", site.specie)
        symbols.append(element.symbol)
    return structure.lattice.matrix, tuple(symbols), structure.frac_coords


def form_factor(symbol: str, s_squared: np.ndarray, source: str = "memory") -> np.ndarray:
    """Return the X-ray form factor of an element, in electrons, at s^2 = (|G| / 4 pi)^2 in 1/Å^2.

    Its value at 0 is the atomic number. Raises DensityError for an element that the table lacks.
    """
    table = _coefficients()
    if symbol not in table:
        raise DensityError(
            f"{source}: no form factor for element '{symbol}'; {did_you_mean(symbol, table)}"
        )
    return _fit(symbol, np.minimum(s_squared, _turning_point(symbol)))


def _fit(symbol: str, s_squared: np.ndarray) -> np.ndarray:
    number, heights, widths = _coefficients()[symbol]
    gaussians = 0
    for height, width in zip(heights, widths, strict=True):
        gaussians = gaussians + height * np.exp(-width * s_squared)
    return np.maximum(number - _MOTT_BETHE * s_squared * gaussians, 0.0)


@cache
def _turning_point(symbol: str) -> float:
    """Return s^2 where the fit has its minimum, in 1/Å^2."""
    s_squared = _S_GRID**2
    return float(s_squared[_fit(symbol, s_squared).argmin()])


@cache
def _coefficients() -> dict[str, tuple[int, tuple[float, ...], tuple[float, ...]]]:
    """Return (atomic number, a_k, b_k) by element."""
    from pymatgen.analysis import diffraction

    path = Path(diffraction.__path__[0]) / "atomic_scattering_params.json"
    coefficients = {}
    for symbol, pairs in json.loads(path.read_text()).items():
        heights, widths = zip(*pairs, strict=True)
        coefficients[symbol] = (ATOMIC_NUMBERS[symbol], heights, widths)
    return coefficients


def _phases(frac_coords: np.ndarray, indices: list[np.ndarray]) -> np.ndarray:
    """Return sum_j exp(-i G r_j): a product of one factor per axis, summed over the atoms."""
    shape = [len(index) for index in indices]
    total = np.zeros((shape[0] * shape[1], shape[2]), dtype=complex)
    # A few atoms at a time: the factors of a plane are as many for each of them as a plane has points.
    for start in range(0, len(frac_coords), _ATOMS_AT_A_TIME):
        atoms = frac_coords[start : start + _ATOMS_AT_A_TIME]
        x, y, z = (
            np.exp(-2j * np.pi * np.outer(atoms[:, axis], index))
            for axis, index in enumerate(indices)
        )
        plane = (x[:, :, None] * y[:, None, :]).reshape(len(atoms), -1)
        total += plane.T @ z
    return total.reshape(shape)
