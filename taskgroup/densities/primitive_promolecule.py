"""Free-atom densities of structures in the canonical primitive cell."""

from typing import Any

from taskgroup.densities.cell import CellReport, primitive
from taskgroup.densities.density import Density
from taskgroup.densities.promolecule import crystal_parts, promolecule

# Å by which atoms may miss a translation of the structure, as spglib's default for structures from files.
_SYMMETRY_TOLERANCE = 1e-2


def primitive_promolecule(
    structure: Any, n: int = 32, sigma: float = 0.20, source: str = "memory"
) -> tuple[Density, CellReport]:
    """Return the free-atom density of a structure in its primitive cell, and what was done to the cell.

    A supercell is reduced before its density is computed, so that n points per axis always resolve a primitive cell.
    See ``promolecule`` for the parameters and errors, ``primitive`` for the choice of the cell.
    """
    from dataclasses import replace

    from pymatgen.core import Lattice, Structure

    lattice, species, frac_coords = crystal_parts(structure, source)
    # The density checks the crystal first: pymatgen would fail on a bad one with words of its own.
    density = promolecule((lattice, species, frac_coords), n, sigma, source)
    if len(species) == 1:
        return primitive(density)
    given = Structure(Lattice(density.lattice), list(density.species), density.frac_coords)
    reduced = given.get_primitive_structure(tolerance=_SYMMETRY_TOLERANCE)
    repeats = round(len(given) / len(reduced))
    if repeats > 1:
        density = promolecule(reduced, n, sigma, source)
    cell, report = primitive(density)
    return cell, replace(report, repeats=repeats * report.repeats)
