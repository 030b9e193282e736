"""Peaks are where the atoms are, with the surroundings the formulas say, however the crystal is described."""

import math

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from scipy.ndimage import map_coordinates

from taskgroup.datasets import load_dataset
from taskgroup.densities import promolecule
from taskgroup.models import CrystalBatch, PreparedRows
from taskgroup.models.backbones.peak_network import PeakScale
from taskgroup.models.peaks.finding import USUAL_PEAKS, find_peaks
from taskgroup.models.peaks.table import (
    ORDERS,
    RADII,
    SMOOTHED,
    _harmonics,
    _interpolated,
    _sphere_rule,
    _spline_coefficients,
    n_columns,
    peak_table,
)

from .conftest import make_cells, make_network

SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.59, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
)


def gaussians(lattice, places, heights, width, n=32):
    """Periodic sums of Gaussians [n, n, n] at fractional places in a cell."""
    line = torch.arange(n) / n
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).double()
    total = torch.zeros(n, n, n, dtype=torch.float64)
    for place, height in zip(places, heights, strict=True):
        for cell in torch.cartesian_prod(*[torch.arange(-2, 3)] * 3):
            apart = (points - torch.tensor(place) + cell) @ lattice.double()
            total += height * torch.exp(-apart.square().sum(-1) / (2 * width**2))
    return total


def table_of(structure, n=32):
    density = promolecule(structure, n=n)
    return looks(
        torch.tensor(density.values[None]).float(), torch.tensor(density.lattice[None]).float()
    )[0]


def looks(density, lattice):
    return peak_table(density, lattice, find_peaks(density, lattice))


def test_a_gaussian_is_found_between_the_grid_points_with_its_height_and_width():
    lattice = make_cells(1)
    place, width = (0.413, 0.207, 0.871), 0.3
    density = gaussians(lattice[0], [place], [7.0], width)
    at, height, curvature, present = find_peaks(density[None, None], lattice)
    assert present.sum() == 1
    np.testing.assert_allclose(at[0, 0], place, atol=2e-4)
    assert height[0, 0].exp() == pytest.approx(7.0, rel=1e-3)
    assert curvature[0, 0] == pytest.approx(-3 / width**2, rel=1e-2)


def test_the_mean_on_spheres_around_a_gaussian_is_its_closed_form():
    lattice, width, height = torch.eye(3)[None] * 6, 0.5, 5.0
    density = gaussians(lattice[0], [(0.51, 0.27, 0.66)], [height], width).float()
    table = looks(density[None, None], lattice)[0, 0]
    blurs = [blur for blur, count in SMOOTHED for _ in range(count)]
    for i, (radius, blur) in enumerate(zip(RADII[:5], blurs, strict=False)):
        square = width**2 + blur**2  # of the Gaussian that a far sphere sees
        expected = height * (width**2 / square) ** 1.5 * math.exp(-(radius**2) / (2 * square))
        assert table[3 + i] == pytest.approx(expected ** (1 / 3), rel=1e-2)
        assert table[3 + len(RADII) + i] < 0.01  # a round atom has no direction


@pytest.mark.parametrize("structure", [SALT, RUTILE, WURTZITE], ids=["NaCl", "TiO2", "ZnO"])
def test_the_peaks_of_free_atoms_are_the_atoms(structure):
    density = promolecule(structure, n=32)
    at, height, _, present = find_peaks(
        torch.tensor(density.values[None]), torch.tensor(density.lattice[None])
    )
    assert present.sum() == len(structure)
    places = at[0, present[0]].numpy()
    distances = structure.lattice.get_all_distances(places, structure.frac_coords)
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(len(structure)))
    assert distances.min(axis=1).max() < 0.03
    charge = np.array([site.specie.Z for site in structure])[nearest]
    assert (np.diff(charge) <= 0).all()  # the highest first, and a heavier atom is higher
    assert height[0, 0] > height[0, present[0].sum() - 1]


def test_neither_origin_nor_orientation_nor_order_of_axes_matters():
    plain = table_of(WURTZITE)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = Structure(
        Lattice(WURTZITE.lattice.matrix[[2, 0, 1]] @ turn), WURTZITE.species,
        (WURTZITE.frac_coords + np.array([0.113, 0.271, 0.059]))[:, [2, 0, 1]],
    )  # fmt: skip
    there = table_of(moved)
    here, there = plain[plain[:, 0] > 0], there[there[:, 0] > 0]
    assert len(here) == len(there)
    for row in (
        there
    ):  # atoms of one kind are alike, so any of them may stand first; columns are of the order of 1
        assert (here - row).abs().amax(1).min() < 0.05


def test_a_larger_cell_repeats_the_peaks():
    large = table_of(RUTILE * (1, 1, 2))
    small = table_of(RUTILE)
    here, twice = small[small[:, 0] > 0], large[large[:, 0] > 0]
    assert len(twice) == 2 * len(here)
    torch.testing.assert_close(twice.mean(0), here.mean(0), atol=0.03, rtol=0.03)


def test_more_peaks_than_are_kept_leave_the_highest():
    places = torch.cartesian_prod(*[torch.arange(4) / 4] * 3).double().numpy()
    heights = 1 + np.arange(64) / 64
    density = gaussians(torch.eye(3) * 6, places, heights, 0.3).float()
    table = looks(density[None, None], torch.eye(3)[None] * 6)[0]
    assert table.shape == (USUAL_PEAKS, n_columns(1))
    assert table[:, 0].sum() == USUAL_PEAKS
    assert (table[:, 1].diff() <= 1e-5).all()
    assert math.exp(1.5 * table[-1, 1] + 3) == pytest.approx(heights[16], rel=0.01)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_density_without_a_maximum_has_one_peak_at_most_and_no_nan(value):
    table = looks(torch.full((2, 1, 8, 8, 8), value), torch.eye(3).repeat(2, 1, 1) * 4)
    assert torch.isfinite(table).all()
    assert (table[..., 0].sum(1) <= 2).all()


def test_splines_are_those_of_scipy():
    values = torch.randn(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(1)) * 30 - 10
    ours = _interpolated(_spline_coefficients(values), torch.tensor([0]), points)[0, :, 0]
    theirs = map_coordinates(values[0, 0].numpy(), points[0].numpy().T, order=3, mode="grid-wrap")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_harmonics_are_orthonormal_on_the_sphere():
    values, weights = _harmonics(), _sphere_rule()[1]
    np.testing.assert_allclose((values * weights) @ values.T, np.eye((ORDERS + 1) ** 2), atol=1e-12)


def test_a_magnetisation_is_seen_with_its_sign():
    lattice = torch.eye(3)[None] * 5
    density = gaussians(lattice[0], [(0.2, 0.3, 0.4)], [5.0], 0.4).float()
    up, down = (
        looks(torch.stack([density, sign * 0.5 * density])[None], lattice)[0, 0, n_columns(1) :]
        for sign in (1, -1)
    )
    assert len(up) == 1 + len(RADII)
    torch.testing.assert_close(up, -down)
    assert up[0] == pytest.approx((0.5 * 5) ** (1 / 3), rel=0.01)


def test_the_order_of_peaks_does_not_matter_to_the_network():
    network = make_network(backbone="peaks", descriptors=False)
    rows = network.view.prepare(
        CrystalBatch(torch.tensor(promolecule(RUTILE, n=32).values[None]).float(), make_cells(1))
    )
    order = torch.arange(USUAL_PEAKS)
    order[:6] = torch.tensor([3, 5, 0, 1, 4, 2])
    turned = PreparedRows.of(
        peaks=rows["peaks"][:, order], nearness=rows["nearness"][:, order][..., order]
    )
    seen = [network.trunk(table, make_cells(1)) for table in (rows, turned)]
    torch.testing.assert_close(*seen)


def test_peaks_come_before_places_without_one():
    dataset = load_dataset("crystals")
    for rows, densities in dataset.density_batches(range(60)):
        found = find_peaks(torch.tensor(densities), torch.tensor(dataset.lattices[rows]))
        assert (found.present.int().diff(dim=1) <= 0).all()
        heights = torch.where(found.present, found.height, -torch.inf)
        assert (heights[:, :-1] >= heights[:, 1:]).all()


@pytest.mark.parametrize("descriptors", [True, False])
def test_rows_without_empty_places_are_seen_alike(descriptors):
    network = make_network(backbone="peaks", descriptors=descriptors)
    densities = [promolecule(structure, n=32) for structure in (RUTILE, SALT)]
    lattice = torch.tensor(np.stack([density.lattice for density in densities])).float()
    rows = network.view.prepare(
        CrystalBatch(
            torch.tensor(np.stack([density.values for density in densities])).float(), lattice
        )
    )
    trimmed = network.view.trimmed(rows)
    most = int(rows["peaks"][..., 0].sum(1).max())
    assert trimmed["peaks"].shape[1] == most < USUAL_PEAKS
    assert trimmed["nearness"].shape[1::2] == (most, most)
    assert trimmed["positions"].shape[1] == most
    assert ("statistics" in trimmed) is descriptors
    if descriptors:
        assert torch.equal(trimmed["statistics"], rows["statistics"])
    torch.testing.assert_close(network(trimmed, lattice), network(rows, lattice))
    again = network.view.trimmed(trimmed)
    for first, second in zip(trimmed.tensors, again.tensors, strict=True):
        assert torch.equal(first, second)


def test_columns_are_scaled_by_the_peaks_that_are_there():
    scale = PeakScale(3).train()
    random = (
        torch.randn(40, 10, 3, generator=torch.Generator().manual_seed(0))
        * torch.tensor([2.0, 0.1, 9.0])
        + 4
    )
    present = (torch.arange(10) < torch.arange(40)[:, None] % 9 + 1)[..., None].float()
    random, present = random.flatten(0, 1), present.flatten(0, 1)
    for part in (slice(0, 200), slice(200, 400)) * 3:
        scale(random[part] * present[part], present[part])
    seen = scale.eval()(random, present)[present[..., 0] > 0]
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones(3), atol=0.05, rtol=0)
    assert scale(1e6 * random, present).abs().max() == 5


def test_listing_the_peaks_that_are_there_gives_what_all_places_give(monkeypatch):
    network = make_network(backbone="peaks").eval()
    lattice = make_cells(3)
    rows = network.view.prepare(
        CrystalBatch(
            torch.rand(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(3)), lattice
        )
    )
    listed = network(rows, lattice)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(network(rows, lattice), listed, rtol=1e-4, atol=1e-5)
