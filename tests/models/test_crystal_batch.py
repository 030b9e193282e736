"""Batches of crystals: atoms in places, picking rows."""

import numpy as np
import pytest
import torch

from taskgroup.models import AtomBatch, CrystalBatch

SPECIES = [("Na", "Cl"), ("Si",), ()]
SITES = [[[0, 0, 0], [0.5, 0.5, 0.5]], [[0.1, 0.2, 0.3]], np.empty((0, 3))]


def test_atoms_lie_in_the_first_places_and_the_others_are_empty():
    atoms = AtomBatch.of(SPECIES, SITES)
    assert atoms.numbers.tolist() == [[11, 17], [14, 0], [0, 0]]
    torch.testing.assert_close(atoms.positions[1], torch.tensor([[0.1, 0.2, 0.3], [0, 0, 0]]))
    assert AtomBatch.of(SPECIES, SITES, places=5).numbers.shape == (3, 5)
    assert AtomBatch.of([], []).numbers.shape == (0, 0)


@pytest.mark.parametrize("atoms", [AtomBatch.of(SPECIES, SITES), None])
def test_picked_rows_keep_their_atoms(atoms):
    crystals = CrystalBatch.of(np.ones((3, 1, 4, 4, 4)), np.eye(3)[None].repeat(3, 0), atoms)
    picked = crystals[1:]
    assert len(picked) == 2
    assert picked.density.dtype == picked.lattice.dtype == torch.float32
    if atoms is None:
        assert picked.to("cpu").atoms is None
    else:
        assert picked.to("cpu").atoms.numbers.tolist() == [[14, 0], [0, 0]]
