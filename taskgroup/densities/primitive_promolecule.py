"""Free-atom densities of structures in the canonical primitive cell."""

from typing import Any

import numpy as np

from taskgroup.densities.cell import CellReport, primitive
from taskgroup.densities.density import Density
from taskgroup.densities.promolecule import crystal_parts, promolecule
from taskgroup.densities.standardise import DEFAULT_SPACING
from taskgroup.errors import DensityError

# Larger cells are supercells, disordered models or mistakes; the grid of such a cell would take gigabytes.
MOST_ATOMS = 2000


def primitive_promolecule(
    structure: Any,
    n: int | None = 32,
    sigma: float = 0.20,
    source: str = "memory",
    *,
    spacing: float | None = None,
) -> tuple[Density, CellReport]:
    """Return the free-atom density of a structure in its primitive cell, and what was done to the cell.

    The primitive cell is found in the density of the given one, whose grid follows a spacing, so that it resolves the
    atoms of a supercell as well. See ``promolecule`` for the parameters and errors, ``primitive`` for the choice of the
    cell. Raises DensityError for more than 2000 atoms.
    """
    parts = crystal_parts(structure, source)
    n_atoms = len(parts[1])
    if n_atoms > MOST_ATOMS:
        raise DensityError(
            f"{source}: a cell must have at most {MOST_ATOMS} atoms, found {n_atoms}; give the primitive cell"
        )
    given = promolecule(parts, sigma=sigma, source=source, spacing=spacing or DEFAULT_SPACING)
    cell, report = primitive(given)
    if spacing is not None and np.array_equal(report.basis, np.eye(3)):
        return given, report
    # The sum over atoms is exact on any grid; values rearranged or summed from waves would not be on a standard one.
    atoms = (cell.lattice, cell.species, cell.frac_coords)
    return promolecule(atoms, n, sigma, source, spacing=spacing), report
