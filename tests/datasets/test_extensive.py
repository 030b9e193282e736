"""Values per cell or formula unit are learnt per atom, and given back as they are declared."""

import numpy as np
import pytest

from taskgroup.datasets import Target, TargetTable, load_dataset
from taskgroup.datasets.extensive import atoms_per_unit, per_atom_table
from taskgroup.errors import TargetError

VOLUME = Target("volume", unit="Å^3", per="cell")
ENERGY = Target("energy", unit="eV", per="formula_unit")
GAP = Target("gap", unit="eV")


@pytest.mark.parametrize(
    ("species", "per_cell", "per_formula_unit"),
    [
        (("Al",), 1, 1),
        (("Si", "Si"), 2, 1),
        (("Na", "Cl", "Na", "Cl"), 4, 2),
        (("Ti", "O", "O", "Ti", "O", "O"), 6, 3),
    ],
)
def test_atoms_of_a_cell_and_of_a_formula_unit_are_counted(species, per_cell, per_formula_unit):
    assert atoms_per_unit(VOLUME, species) == per_cell
    assert atoms_per_unit(ENERGY, species) == per_formula_unit
    assert atoms_per_unit(GAP, species) == 1


def test_extensive_columns_are_divided_and_the_others_stay():
    table = TargetTable((VOLUME, GAP, ENERGY), ("a", "b"), [[40, 1, 9], [20, np.nan, 3]])
    learnt = per_atom_table(table, [("Na", "Cl", "Na", "Cl"), ("Al",)])
    np.testing.assert_array_equal(learnt.values, [[10, 1, 4.5], [20, np.nan, 3]])
    assert [spec.unit for spec in learnt.specs] == ["Å^3/atom", "eV", "eV/atom"]
    assert not any(spec.is_extensive for spec in learnt.specs)
    assert per_atom_table(learnt, [(), ()]) is learnt


def test_an_extensive_target_without_atoms_is_refused():
    table = TargetTable((VOLUME,), ("a",), [[40]])
    with pytest.raises(TargetError, match="need the atoms"):
        per_atom_table(table, [()])


def test_what_an_extensive_target_counts_is_checked():
    with pytest.raises(TargetError, match="unknown per 'mole'"):
        Target("volume", per="mole")
    with pytest.raises(TargetError, match="not extensive"):
        Target("is_metal", kind="classification", per="cell")


def test_a_target_that_is_not_extensive_is_stored_as_before():
    assert "per" not in GAP.to_dict()
    assert Target(**VOLUME.to_dict()) == VOLUME


def test_the_volume_of_the_crystals_is_per_cell_and_learnt_per_atom():
    crystals = load_dataset("crystals")
    counts = np.array([len(symbols) for symbols in crystals.species])
    per_atom = crystals.learnt_targets.column("volume")
    np.testing.assert_allclose(per_atom * counts, crystals.targets.column("volume"))
