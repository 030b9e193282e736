"""What networks see does not depend on the cell, the origin or the order of the vectors."""

from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets.crystals import data_folder
from taskgroup.densities import (
    equivalent_descriptions,
    peak_at_origin,
    promolecule,
    read_density,
    standard_form,
    standard_promolecule,
    standardise,
)

CHGCARS = sorted(Path(str(data_folder())).joinpath("chgcar").iterdir())
ROCKSALT = ([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])


@pytest.mark.parametrize("path", CHGCARS[:4], ids=lambda path: path.name.split(".")[0])
def test_equivalent_descriptions_have_one_form(path: Path):
    density = read_density(path)
    expected, _ = standard_form(density, 24)
    random = np.random.default_rng(1)
    for _ in range(2):
        found, report = standard_form(equivalent_descriptions(density, random), 24)
        assert report.n_atoms == len(expected.species)
        assert found.charge == pytest.approx(expected.charge, rel=1e-6)
        # A symmetry of the crystal may exchange grid points, but no value may change.
        np.testing.assert_allclose(
            np.sort(found.values, axis=None), np.sort(expected.values, axis=None), atol=1e-8
        )
        assert found.values.argmax() == 0


def test_a_shift_between_grid_points_is_undone():
    density = standardise(promolecule(ROCKSALT, n=24), 24)
    lattice, species, positions = ROCKSALT
    moved = promolecule((lattice, species, np.add(positions, [0.013, 0.002, 0.031])), n=24)
    expected = peak_at_origin(density)
    found = peak_at_origin(standardise(moved, 24))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-7)
    difference = found.frac_coords - expected.frac_coords
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-8)


def test_a_shift_by_grid_points_changes_no_value():
    density = peak_at_origin(standardise(promolecule(ROCKSALT, n=16), 16))
    rolled = np.roll(density.values, (3, 5, 1), axis=(1, 2, 3))
    again = peak_at_origin(type(density)(rolled, *ROCKSALT[:1], *ROCKSALT[1:], "promolecule", "m"))
    np.testing.assert_array_equal(again.values, density.values)


def test_a_flat_density_stays_as_it_is():
    density = standardise(promolecule(ROCKSALT, n=8), 8, sigma=50.0)
    assert peak_at_origin(density).charge == pytest.approx(28)


def test_a_supercell_of_a_structure_is_reduced_before_its_density_is_made():
    lattice, species, positions = ROCKSALT
    doubled = np.array(lattice) * [[2], [1], [1]]
    atoms = [np.add(place, [shift, 0, 0]) / [2, 1, 1] for place in positions for shift in (0, 1)]
    expected, _ = standard_promolecule(ROCKSALT, n=16)
    found, report = standard_promolecule(
        (doubled, [s for s in species for _ in range(2)], atoms), n=16
    )
    assert report.repeats == 2
    assert "2" in report.note
    np.testing.assert_allclose(
        np.sort(found.values, axis=None), np.sort(expected.values, axis=None), atol=1e-6
    )
