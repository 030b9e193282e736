"""Charge densities: read and counted, brought to a primitive cell and a standard grid, or made from free atoms.

>>> from taskgroup.densities import promolecule, standardise
>>> silicon = ([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], ["Si", "Si"], [[0, 0, 0], [0.25, 0.25, 0.25]])
>>> atoms = promolecule(silicon, n=24)
>>> atoms
Density(memory: 1 x [24 x 24 x 24], promolecule, 28.0000 electrons)
>>> standardise(atoms, n=16, sigma=0.5)
Density(memory: 1 x [16 x 16 x 16], promolecule, 28.0000 electrons)

``read_density("CHGCAR")`` reads a file, ``density_members("CHGCARs.tar")`` the densities of an archive one by one, and
``primitive`` brings a density to the cell that does not depend on how it was described. Everything here is numpy;
pymatgen is imported when a file is read.
"""

from taskgroup.densities.archives import (
    archive_stem,
    is_archive,
    is_archive_name,
    is_archive_path,
    members,
)
from taskgroup.densities.cell import CellReport, primitive
from taskgroup.densities.density import Density
from taskgroup.densities.descriptions import equivalent_descriptions
from taskgroup.densities.promolecule import promolecule
from taskgroup.densities.read import (
    READERS,
    density_members,
    density_paths,
    read_density,
    reader_for,
    readers,
)
from taskgroup.densities.reader import Member, Reader, bare_name
from taskgroup.densities.standard_form import peak_at_origin, standard_form, standard_promolecule
from taskgroup.densities.standardise import DEFAULT_SPACING, spaced_grid, standardise
from taskgroup.densities.structures import (
    read_structure,
    read_structures,
    structure_lines,
    structure_of_line,
)
from taskgroup.densities.vacuum import Vacuum, find_vacuum

__all__ = [
    "DEFAULT_SPACING",
    "READERS",
    "CellReport",
    "Density",
    "Member",
    "Reader",
    "Vacuum",
    "archive_stem",
    "bare_name",
    "density_members",
    "density_paths",
    "equivalent_descriptions",
    "find_vacuum",
    "is_archive",
    "is_archive_name",
    "is_archive_path",
    "members",
    "peak_at_origin",
    "primitive",
    "promolecule",
    "read_density",
    "read_structure",
    "read_structures",
    "reader_for",
    "readers",
    "spaced_grid",
    "standard_form",
    "standard_promolecule",
    "standardise",
    "structure_lines",
    "structure_of_line",
]
