"""Atoms of another crystal, or of another origin, are told from those that belong to a density."""

from dataclasses import replace

import numpy as np
import pytest

from taskgroup.datasets import load_dataset
from taskgroup.densities import Density, promolecule
from taskgroup.densities.atom_match import atom_agreement, misplaced_atoms_note

SALT = (5.6 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), ["Na", "Cl"])


@pytest.fixture(scope="module")
def salt() -> Density:
    return promolecule((*SALT, [[0, 0, 0], [0.5, 0.5, 0.5]]), n=24)


def test_atoms_that_made_a_density_agree_with_it(salt: Density) -> None:
    assert atom_agreement(salt) == pytest.approx(1, abs=1e-9)
    assert misplaced_atoms_note(salt) == ""


@pytest.mark.parametrize("shift", [[0.25, 0.25, 0.25], [0.3, 0.1, 0.2], [0, 0, 0.4]])
def test_atoms_of_another_origin_are_noted(salt: Density, shift: list[float]) -> None:
    moved = replace(salt, frac_coords=salt.frac_coords + shift)
    assert atom_agreement(moved) < 0.05
    assert "the atoms do not lie where the density has its peaks" in misplaced_atoms_note(moved)


def test_the_agreement_is_that_of_any_common_origin_axes_and_handedness(salt: Density) -> None:
    off = replace(salt, frac_coords=[[0.1, 0, 0.05], [0.5, 0.42, 0.5]])
    expected = atom_agreement(off)
    assert 0.05 < expected < 0.999
    rolled = replace(
        off,
        values=np.roll(off.values, (5, 2, 7), axis=(1, 2, 3)),
        frac_coords=off.frac_coords + np.array([5, 2, 7]) / 24,
    )
    assert atom_agreement(rolled) == pytest.approx(expected, abs=1e-9)
    turned = replace(
        off,
        values=off.values.transpose(0, 2, 1, 3),
        lattice=off.lattice[[1, 0, 2]],
        frac_coords=off.frac_coords[:, [1, 0, 2]],
    )
    assert atom_agreement(turned) == pytest.approx(expected, abs=1e-9)


def test_nearly_free_electrons_give_no_note() -> None:
    values = np.ones((1, 8, 8, 8)) + 0.01 * np.random.default_rng(0).random((1, 8, 8, 8))
    flat = Density(values, 3 * np.eye(3), ["Li"], [[0, 0, 0]])
    assert misplaced_atoms_note(flat) == ""
    constant = replace(flat, values=np.ones((1, 8, 8, 8)))
    assert atom_agreement(constant) == 0
    assert misplaced_atoms_note(constant) == ""


def test_the_crystals_of_the_package_have_no_such_note() -> None:
    dataset = load_dataset("crystals")
    noted = []
    for row in range(0, len(dataset), 7):
        values = dataset.densities([row])[0]
        density = Density(
            values, dataset.lattices[row], dataset.species[row], dataset.frac_coords[row]
        )
        if misplaced_atoms_note(density):
            noted.append(dataset.ids[row])
    assert noted == []
