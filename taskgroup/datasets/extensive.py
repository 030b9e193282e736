"""Extensive targets: labels per cell or per formula unit, which a network learns per atom.

A volume or a total energy grows with the amount of matter, and a network sees a crystal without knowing how large the
piece is. So such targets are declared (``per`` of Target), divided by the number of atoms before anything is learnt or
correlated, and multiplied again where a prediction is given back.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import gcd

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.target import Target, TargetTable
from taskgroup.errors import TargetError


def atoms_per_unit(target: Target, species: Sequence[str]) -> int:
    """Return how many atoms the labels of a target count, in a primitive cell of these atoms; 1 for intensive ones.

    Raises TargetError: the target is extensive, and there are no atoms to count.
    """
    if not target.is_extensive:
        return 1
    if not species:
        raise TargetError(
            f"target '{target.name}': values per {target.per} need the atoms of the crystal, found none"
        )
    if target.per == "cell":
        return len(species)
    counts = Counter(species).values()
    return sum(counts) // reduce(gcd, counts)


def per_atom_target(target: Target) -> Target:
    """Return the target that networks learn: an extensive one per atom, any other as it is."""
    if not target.is_extensive:
        return target
    unit = f"{target.unit}/atom" if target.unit else ""
    return replace(target, unit=unit, per="")


def per_atom_table(table: TargetTable, species: Sequence[Sequence[str]]) -> TargetTable:
    """Return the labels that networks learn; ``species`` are the atoms of each row's primitive cell."""
    if not any(spec.is_extensive for spec in table.specs):
        return table
    values = table.values.copy()
    for column, spec in enumerate(table.specs):
        if spec.is_extensive:
            values[:, column] /= atom_counts(spec, species)
    specs = tuple(per_atom_target(spec) for spec in table.specs)
    return TargetTable(specs, table.ids, values)


def per_primitive_cell(table: TargetTable, cells_by_id: Mapping[str, int]) -> TargetTable:
    """Return values per cell as those of a primitive cell; ``cells_by_id`` are the primitive cells that they count."""
    if not any(spec.per == "cell" for spec in table.specs):
        return table
    values = table.values.copy()
    cells = np.array([cells_by_id.get(row_id, 1) for row_id in table.ids], dtype=float)
    for column, spec in enumerate(table.specs):
        if spec.per == "cell":
            values[:, column] /= cells
    return TargetTable(table.specs, table.ids, values)


def atom_counts(target: Target, species: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return ``atoms_per_unit`` of each row."""
    return np.array([atoms_per_unit(target, symbols) for symbols in species], dtype=float)
