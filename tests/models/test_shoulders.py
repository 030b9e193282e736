"""Atoms without a maximum of the density are found, and bumps on the shells of heavy atoms are not taken for atoms."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from taskgroup.datasets import load_dataset
from taskgroup.densities import promolecule
from taskgroup.models.peaks.finding import PeakRules, find_peaks
from taskgroup.models.peaks.shoulders import ShoulderRules, _principal

# Molecules in boxes and crystals, as (species, Cartesian positions in Å).
WATER = (["O", "H", "H"], [[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
AMMONIA = (
    ["N", "H", "H", "H"],
    [[0, 0, 0.116], [0, 0.94, -0.27], [0.814, -0.47, -0.27], [-0.814, -0.47, -0.27]],
)
METHANE = (
    ["C", "H", "H", "H", "H"],
    [
        [0, 0, 0],
        [0.63, 0.63, 0.63],
        [-0.63, -0.63, 0.63],
        [-0.63, 0.63, -0.63],
        [0.63, -0.63, -0.63],
    ],
)
HYDROXIDE = (["Cs", "O", "H"], [[0, 0, 0], [2.9, 0, 0], [3.87, 0, 0]])
HYDRIDE = (["Pt", "H", "H"], [[0, 0, 0], [1.66, 0, 0], [-1.66, 0, 0]])
BOX = 6.0


def box(molecule):
    species, positions = molecule
    # Off the grid, so that no atom has a grid point of its own.
    at = np.add(positions, (2.03, 2.17, 2.29))
    return Structure(Lattice.cubic(BOX), species, at, coords_are_cartesian=True)


def found_atoms(structure, n=32):
    density = promolecule(structure, n=n)
    peaks = find_peaks(torch.tensor(density.values[None]), torch.tensor(density.lattice[None]))
    return peaks.at[0, peaks.present[0]].numpy()


@pytest.mark.parametrize(
    "molecule",
    [WATER, AMMONIA, METHANE, HYDROXIDE, HYDRIDE],
    ids=["H2O", "NH3", "CH4", "CsOH", "PtH2"],
)
def test_every_atom_is_found_and_nothing_else(molecule):
    structure = box(molecule)
    places = found_atoms(structure)
    assert len(places) == len(structure)
    distances = structure.lattice.get_all_distances(structure.frac_coords, places)
    assert distances.min(axis=1).max() < 0.1


def test_hydrogen_of_water_makes_no_maximum():
    structure = box(WATER)
    density = promolecule(structure, n=32)
    never = PeakRules(shoulders=ShoulderRules(strength=np.inf, weak_strength=1e6))
    peaks = find_peaks(
        torch.tensor(density.values[None]), torch.tensor(density.lattice[None]), never
    )
    assert peaks.present.sum() == 1


def test_a_coarse_grid_has_no_shoulders():
    # .4 Å between points
    assert len(found_atoms(box(WATER), n=16)) == 1


def test_atoms_of_valence_densities_are_found():
    dataset = load_dataset("crystals")
    rows = range(0, len(dataset), 12)
    missed = 0
    extra = 0
    for row in rows:
        density = torch.tensor(dataset.densities([row])).double()
        peaks = find_peaks(density, torch.tensor(dataset.lattices[row])[None])
        places = peaks.at[0, peaks.present[0]].numpy()
        structure = dataset.structure(row)
        apart = structure.lattice.get_all_distances(structure.frac_coords, places)
        missed += int((apart.min(axis=1) > 0.4).sum())
        extra += int((apart.min(axis=0) > 0.4).sum())
    assert missed == 0
    assert extra <= 1


def test_principal_curvatures_are_the_eigenvalues():
    random = torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    symmetric = random + random.transpose(1, 2)
    torch.testing.assert_close(_principal(symmetric), torch.linalg.eigvalsh(symmetric))
    torch.testing.assert_close(
        _principal(2 * torch.eye(3, dtype=torch.float64)), torch.full((3,), 2.0).double()
    )
