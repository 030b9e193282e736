"""Nearness is a sum over the neighbours that pymatgen finds, however the crystal is described."""

import math

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from taskgroup.models.peaks.neighbours import DISTANCES, nearness

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
)
COPPER = Structure(
    Lattice(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.805), ["Cu"], [[0, 0, 0]]
)


def near(structure, places=None):
    """[K, distances, K], with as many places as there are sites or more."""
    places = places or len(structure)
    at = torch.zeros(1, places, 3, dtype=torch.float64)
    at[0, : len(structure)] = torch.tensor(structure.frac_coords)
    present = torch.arange(places)[None] < len(structure)
    found = nearness(at, present, torch.tensor(structure.lattice.matrix[None]).float())
    return found[0]


@pytest.mark.parametrize("structure", [SALT, WURTZITE, COPPER], ids=["NaCl", "ZnO", "Cu"])
def test_it_is_the_sum_over_the_neighbours_pymatgen_finds(structure):
    expected = torch.zeros(len(structure), len(DISTANCES), len(structure))
    centres, others, _, distances = structure.get_neighbor_list(6.0)
    for i, j, r in zip(centres, others, distances, strict=True):
        for k, centre in enumerate(DISTANCES):
            expected[i, k, j] += math.cos(math.pi * r / 12) ** 2 * math.exp(
                -(((r - centre) / 0.5) ** 2)
            )
    torch.testing.assert_close(near(structure), expected, atol=1e-4, rtol=1e-4)


def test_a_place_without_a_peak_is_near_to_nothing():
    found = near(COPPER, places=4)
    assert found[0, :, 0].sum() > 1
    assert found[1:].abs().max() == found[:, :, 1:].abs().max() == 0


@pytest.mark.parametrize(
    "steps",
    [
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [2, 1, 0], [0, -3, 1]],
        [[1, 9, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_another_cell_of_the_same_crystal_changes_nothing(steps):
    sheared = Structure(
        Lattice(np.array(steps) @ WURTZITE.lattice.matrix), WURTZITE.species,
        WURTZITE.frac_coords @ np.linalg.inv(steps) + 0.37,
    )  # fmt: skip
    torch.testing.assert_close(near(sheared), near(WURTZITE), atol=1e-4, rtol=1e-4)


def test_a_larger_cell_shares_the_neighbours_among_its_images():
    large = near(COPPER * (2, 1, 1))
    torch.testing.assert_close(
        large.sum(2), near(COPPER).sum(2).expand(2, -1), atol=1e-4, rtol=1e-4
    )


def test_a_traced_program_gives_the_same(monkeypatch):
    here = near(WURTZITE, places=6)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(near(WURTZITE, places=6), here, atol=1e-4, rtol=1e-4)
