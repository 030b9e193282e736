"""How many electrons a total density may hold, and what a wrong number tells about the file."""

import itertools

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.elements import (
    ATOMIC_NUMBERS,
    fewest_valence_electrons,
    most_valence_electrons,
)
from taskgroup.densities.reader import refuse

# Electrons, by which a sum over the grid may miss a whole number.
COUNT_TOLERANCE = 1e-3
# Of the charge: the five digits of CHG and cube files.
COUNT_ROUNDING = 2e-5
# Of the charge, where the caller says how many electrons there are.
STATED_TOLERANCE = 1e-2
# Half an electron on either side: a charged cell with a fractional count is refused elsewhere, as it is not whole.
_BOUND_TOLERANCE = 0.5
# A charged cell lacks a few of the fewest electrons its atoms can have; the unpaired electrons of a crystal are fewer
# than this share of them (5 of 7 in Mn2+, whose ligands have no unpaired ones).
_LEAST_SHARE = 0.75
# A plane of a file with five digits repeats another one to this accuracy.
_SAME_PLANE = 1e-5

_HINT = (
    "say electrons=N if that is known to be right (--electrons N of predict, a column 'electrons' for data ingest), "
    "or all_electron=True (--all-electron) for a file with core electrons"
)


def check_stated(density: Density, electrons: float) -> None:
    """Refuse a density whose charge is not the stated one within 1 %."""
    if not np.isfinite(electrons) or electrons <= 0:
        refuse(
            density.source, f"the stated number of electrons must be above 0, found {electrons:g}"
        )
    if abs(density.charge - electrons) > STATED_TOLERANCE * electrons:
        refuse(
            density.source,
            f"must hold {electrons:g} electrons within {100 * STATED_TOLERANCE:g} %, found {density.charge:.4f}",
        )


def check_count(density: Density) -> None:
    """Refuse a density whose charge cannot be that of all valence electrons, see ``read_density``."""
    charge = density.charge
    all_electrons = sum(ATOMIC_NUMBERS[symbol] for symbol in density.species)
    rule = _broken_rule(density)
    if rule is None:
        return
    cause = _likely_cause(density)
    refuse(
        density.source,
        f"{rule}, found {charge:.4f} (atomic numbers sum to {all_electrons}){cause}; {_HINT}",
    )


def electron_bounds(species: tuple[str, ...]) -> tuple[int, int]:
    """Return the fewest and most valence electrons that atoms have with any common pseudopotentials.

    >>> electron_bounds(("Na", "Cl"))
    (8, 24)
    """
    fewest = sum(fewest_valence_electrons(symbol) for symbol in species)
    most = sum(most_valence_electrons(symbol) for symbol in species)
    return fewest, most


def is_count(charge: float) -> bool:
    """Return whether a charge is a whole number of electrons, as far as a file with five digits can tell."""
    return abs(charge - round(charge)) <= COUNT_TOLERANCE + COUNT_ROUNDING * abs(charge)


def _broken_rule(density: Density) -> str | None:
    charge = density.charge
    fewest, most = electron_bounds(density.species)
    least = max(len(density.species) - _BOUND_TOLERANCE, _LEAST_SHARE * fewest)
    if density.kind == "all-electron":
        return "holds core electrons, whose charge a grid cannot carry exactly"
    if not is_count(charge):
        return "must hold a whole number of electrons"
    if charge < least:
        return (
            f"must hold {fewest} to {most} valence electrons; this is a partial or a spin density"
        )
    if charge > most + _BOUND_TOLERANCE:
        return f"holds core electrons (more than the {most} that can be in the valence)"
    return None


def _likely_cause(density: Density) -> str:
    """Return a clause that names a mistake of unit or grid which explains the charge, or nothing."""
    volume = density.volume
    conversions = {
        "e/Å^3 in place of e/Bohr^3": BOHR**3,
        "rho times the cell's volume, as pymatgen's to_cube writes it": BOHR**3 / volume,
        "rho without the factor of the cell's volume": volume,
    }
    for meaning, factor in conversions.items():
        if _fits(density.charge * factor, density):
            return f"; the values look like {meaning}, which would be {density.charge * factor:.4f}"
    for axes in _subsets_of_repeated_planes(density):
        inner = density.values[0]
        volume = density.volume
        for axis in axes:
            inner = np.delete(inner, -1, axis=axis)
            volume *= (density.grid[axis] - 1) / density.grid[axis]
        for cell in (density.volume, volume):
            charge = float(inner.mean() * cell)
            if _fits(charge, density):
                names = ", ".join("abc"[axis] for axis in axes)
                return f"; the last planes along {names} repeat the first ones, without them it is {charge:.4f}"
    return ""


def _fits(charge: float, density: Density) -> bool:
    fewest, most = electron_bounds(density.species)
    in_bounds = _LEAST_SHARE * fewest <= charge <= most + _BOUND_TOLERANCE
    return in_bounds and is_count(charge)


def _subsets_of_repeated_planes(density: Density) -> list[tuple[int, ...]]:
    """Return the sets of axes, largest first, along which the last plane repeats the first."""
    values = density.values[0]
    scale = float(np.abs(values).max())
    repeated = []
    for axis in range(3):
        planes = np.moveaxis(values, axis, 0)
        if len(planes) > 2 and np.abs(planes[0] - planes[-1]).max() <= _SAME_PLANE * scale:
            repeated.append(axis)
    subsets = []
    for size in range(len(repeated), 0, -1):
        subsets.extend(itertools.combinations(repeated, size))
    return subsets
