"""Charge densities: read and counted, standardised to one grid, or made from free atoms.

>>> from taskgroup.densities import promolecule, standardise
>>> silicon = ([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], ["Si", "Si"], [[0, 0, 0], [0.25, 0.25, 0.25]])
>>> atoms = promolecule(silicon, n=24)
>>> atoms
Density(memory: 1 x [24 x 24 x 24], promolecule, 28.0000 electrons)
>>> standardise(atoms, n=16, sigma=0.5)
Density(memory: 1 x [16 x 16 x 16], promolecule, 28.0000 electrons)

``read_density("CHGCAR")`` reads a file. Everything here is numpy; pymatgen is imported when a file is read.
"""

from taskgroup.densities.density import Density
from taskgroup.densities.promolecule import promolecule
from taskgroup.densities.read import read_density, reader_for, readers
from taskgroup.densities.reader import Reader
from taskgroup.densities.standardise import standardise
from taskgroup.densities.structures import (
    read_structure,
    read_structures,
    structure_lines,
    structure_of_line,
)

__all__ = [
    "Density",
    "Reader",
    "promolecule",
    "read_density",
    "read_structure",
    "read_structures",
    "reader_for",
    "readers",
    "standardise",
    "structure_lines",
    "structure_of_line",
]
