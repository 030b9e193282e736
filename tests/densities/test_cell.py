"""One crystal, one cell: translations, reduction, resampling, and what is said of it."""

import time
from dataclasses import replace
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgroup.densities import Density, promolecule, read_density
from taskgroup.densities._reduction import reduced_bases
from taskgroup.densities._resample import shared_grid, smooth_count
from taskgroup.densities.cell import primitive
from taskgroup.densities.descriptions import EXACT_KINDS, KINDS, refine, repeat
from taskgroup.densities.testing import equivalent_descriptions
from taskgroup.errors import ConfigError, DensityError

CHGCARS = sorted(
    Path(str(files("taskgroup.datasets") / "data" / "crystals" / "chgcar")).glob("*.CHGCAR.gz")
)
SALT = ([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
TRICLINIC = (
    [[3.1, 0.2, -0.4], [0.7, 4.2, 0.3], [-0.6, 0.5, 5.3]],
    ["Na", "Cl", "O"],
    [[0.1, 0.2, 0.3], [0.6, 0.55, 0.8], [0.35, 0.8, 0.1]],
)


def lattice_parameters(lattice: np.ndarray) -> np.ndarray:
    """Sorted lengths in Å and sorted cosines."""
    lengths = np.linalg.norm(lattice, axis=1)
    unit = lattice / lengths[:, None]
    cosines = [unit[i] @ unit[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    return np.concatenate([np.sort(lengths), np.sort(cosines)])


def assert_same_cell(found: Density, expected: Density) -> None:
    np.testing.assert_allclose(
        lattice_parameters(found.lattice),
        lattice_parameters(expected.lattice),
        atol=1e-5,
        rtol=1e-5,
    )
    assert np.linalg.det(found.lattice) > 0
    assert sorted(found.species) == sorted(expected.species)
    assert found.charge == pytest.approx(expected.charge, rel=1e-6)
    assert found.volume == pytest.approx(expected.volume, rel=1e-9)


@pytest.fixture(scope="module")
def crystals() -> dict[str, tuple[Density, Density]]:
    """The densities that come with the package, and their primitive cells."""
    assert CHGCARS
    densities = {path.name: read_density(path) for path in CHGCARS}
    return {name: (density, primitive(density)[0]) for name, density in densities.items()}


@pytest.mark.parametrize("name", [path.name for path in CHGCARS])
def test_shipped_crystals_are_primitive_and_have_one_cell(
    crystals: dict[str, tuple[Density, Density]], name: str
) -> None:
    density, cell = crystals[name]
    assert cell is density
    random = np.random.default_rng(sum(name.encode()))
    for _ in range(3):
        other = equivalent_descriptions(density, random, most_points=600_000)
        found, report = primitive(other)
        assert_same_cell(found, cell)
        assert report.repeats == len(other.species) // len(density.species)
        np.testing.assert_allclose(
            np.sort(found.values, axis=None), np.sort(cell.values, axis=None), rtol=1e-9, atol=1e-9
        )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_random_descriptions_of_random_crystals_have_one_cell(seed: int) -> None:
    random = np.random.default_rng(seed)
    lattice = np.diag(random.uniform(3, 5, 3)) + random.uniform(-0.8, 0.8, (3, 3))
    n_atoms = int(random.integers(1, 5))
    species = random.choice(["Na", "Cl", "O", "Fe"], n_atoms)
    atoms = (lattice, list(species), random.random((n_atoms, 3)))
    density = promolecule(atoms, n=14, sigma=0.35)
    cell, _ = primitive(density)
    found, _ = primitive(equivalent_descriptions(density, random))
    assert_same_cell(found, cell)
    np.testing.assert_allclose(
        np.sort(found.values, axis=None), np.sort(cell.values, axis=None), rtol=1e-8, atol=1e-9
    )


def low_waves(density: Density) -> np.ndarray:
    """Sizes of the lowest Fourier coefficients, which do not depend on the origin."""
    waves = np.fft.fftn(density.values[0]) / density.values[0].size
    reach = (0, 1, 2, -1, -2)
    return np.array([abs(waves[index]) for index in product(reach, repeat=3)])


def test_a_crystal_without_symmetry_also_gets_the_same_axes() -> None:
    density = promolecule(TRICLINIC, n=20, sigma=0.3)
    expected = low_waves(primitive(density)[0])
    random = np.random.default_rng(5)
    for _ in range(8):
        found, _ = primitive(equivalent_descriptions(density, random))
        np.testing.assert_allclose(low_waves(found), expected, rtol=1e-6, atol=1e-9)


def test_a_lattice_with_more_symmetry_than_its_crystal_gets_the_same_axes() -> None:
    atoms = (np.eye(3) * 4.0, ["Na", "Cl", "O"], [[0, 0, 0], [0.3, 0.1, 0.05], [0.1, 0.6, 0.35]])
    density = promolecule(atoms, n=20, sigma=0.3)
    expected = low_waves(primitive(density)[0])
    random = np.random.default_rng(6)
    for _ in range(8):
        found, _ = primitive(equivalent_descriptions(density, random))
        np.testing.assert_allclose(low_waves(found), expected, rtol=1e-6, atol=1e-9)


def test_another_native_grid_gives_the_same_cell() -> None:
    density = promolecule(TRICLINIC, n=24, sigma=0.4)
    cell, _ = primitive(density)
    random = np.random.default_rng(7)
    for _ in range(6):
        found, report = primitive(equivalent_descriptions(density, random, KINDS, largest_repeat=2))
        assert_same_cell(found, cell)
        assert report.cut < 1e-6
        assert found.values.max() == pytest.approx(cell.values.max(), rel=0.05)


@pytest.mark.parametrize(
    "counts", [(2, 1, 1), (2, 2, 2), (3, 3, 3), (1, 4, 3), (7, 1, 1), (6, 1, 1)]
)
def test_supercells_are_told_as_what_they_are(counts: tuple[int, int, int]) -> None:
    density, _ = primitive(promolecule(SALT, n=12, sigma=0.4))
    found, report = primitive(repeat(density, counts))
    assert str(report) == f"{'x'.join(map(str, counts))} supercell of 2 atoms"
    assert (report.repeats, report.resampling) == (np.prod(counts), "index")
    np.testing.assert_allclose(
        np.sort(found.values, axis=None), np.sort(density.values, axis=None), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(
        lattice_parameters(found.lattice), lattice_parameters(density.lattice), atol=1e-9
    )


def test_a_centred_cell_holds_several_primitive_ones() -> None:
    edges = np.eye(3) * 4.04
    positions = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    conventional = promolecule((edges, ["Al"] * 4, positions), n=24)
    found, report = primitive(conventional)
    assert str(report) == "4 primitive cells of 1 atom"
    assert report.supercell is None
    assert found.charge == pytest.approx(13)
    np.testing.assert_allclose(lattice_parameters(found.lattice)[3:], 0.5, atol=1e-9)
    vectors = np.sqrt(2) / 2 * 4.04
    expected = promolecule(
        ([[0, 2.02, 2.02], [2.02, 0, 2.02], [2.02, 2.02, 0]], ["Al"], [[0, 0, 0]])
    )
    assert lattice_parameters(found.lattice)[0] == pytest.approx(vectors)
    assert found.values.max() == pytest.approx(expected.values.max(), rel=1e-3)


@pytest.mark.parametrize("n", [16, 20, 25])
def test_translations_between_grid_points_are_found(n: int) -> None:
    lattice = np.array(SALT[0]) * [[3], [1], [1]]
    positions = [[i / 3, 0, 0] for i in range(3)] + [[(i + 0.5) / 3, 0.5, 0.5] for i in range(3)]
    tripled = promolecule((lattice, ["Na"] * 3 + ["Cl"] * 3, positions), n=n, sigma=0.5)
    found, report = primitive(tripled)
    assert str(report) == "3x1x1 supercell of 2 atoms"
    assert found.charge == pytest.approx(28, rel=1e-9)
    assert found.species == ("Na", "Cl")


def test_already_primitive_means_the_same_object() -> None:
    density, first = primitive(promolecule(SALT, n=12))
    assert str(first) in ("already primitive", "already primitive, axes reordered", "basis reduced")
    found, report = primitive(density)
    assert found is density
    assert str(report) == "already primitive"
    np.testing.assert_array_equal(report.basis, np.eye(3))


def test_a_reduced_basis_only_rearranges_the_values() -> None:
    density = promolecule(TRICLINIC, n=12)
    skew = equivalent_descriptions(density, np.random.default_rng(2), ["basis"])
    found, report = primitive(skew)
    assert str(report) == "basis reduced"
    np.testing.assert_array_equal(
        np.sort(found.values, axis=None), np.sort(density.values, axis=None)
    )


def magnetic(density: Density, signs: tuple[int, int]) -> Density:
    """Two cells along the first vector whose magnetisation has these signs."""
    values = np.concatenate([density.values, 0.1 * density.values])
    double = repeat(replace(density, values=values), (2, 1, 1))
    half = density.grid[0]
    values = double.values.copy()
    values[1, :half] *= signs[0]
    values[1, half:] *= signs[1]
    return replace(double, values=values)


def test_magnetic_cells_keep_their_magnetisation() -> None:
    density = promolecule(SALT, n=12, sigma=0.4)
    ferromagnet, report = primitive(magnetic(density, (1, 1)))
    assert report.repeats == 2
    assert ferromagnet.values[1].mean() * ferromagnet.volume == pytest.approx(2.8)
    antiferromagnet, report = primitive(magnetic(density, (1, -1)))
    assert (report.repeats, len(antiferromagnet.species)) == (1, 4)
    assert "density and magnetisation do not" in str(report)
    noise = np.random.default_rng(0).normal(size=(24, 12, 12)) * 1e-6
    quiet = magnetic(density, (0, 0))
    quiet = replace(quiet, values=np.stack([quiet.values[0], noise]))
    assert primitive(quiet)[1].repeats == 2


@pytest.mark.parametrize(("noise", "repeats"), [(1e-4, 8), (5e-3, 8), (3e-2, 1), (0.5, 1)])
def test_noise_below_the_tolerance_is_averaged_and_above_it_kept(
    noise: float, repeats: int
) -> None:
    eight = repeat(promolecule(SALT, n=10, sigma=0.4), (2, 2, 2))
    random = np.random.default_rng(0)
    shaken = eight.values + noise * eight.values.std() * random.normal(size=eight.values.shape)
    density = replace(eight, values=shaken)
    found, report = primitive(density)
    assert report.repeats == repeats
    assert found.charge * repeats == pytest.approx(density.charge, rel=1e-9)
    if noise == 3e-2:
        assert "nearly periodic: kept (differs by 4" in str(report)
        assert primitive(density, tolerance=0.08)[1].repeats == 8


def test_atoms_that_do_not_belong_to_the_density_are_told() -> None:
    eight = repeat(promolecule(SALT, n=10, sigma=0.4), (2, 2, 2))
    random = np.random.default_rng(0)
    wrong = replace(eight, frac_coords=random.random((16, 3)))
    _, report = primitive(wrong)
    assert report.repeats == 1
    assert "the density alone repeats 8 times, with its atoms 1 times" in str(report)
    swapped = replace(eight, species=("K", *eight.species[1:]))
    assert primitive(swapped)[1].repeats == 1


def test_a_density_that_is_the_same_everywhere_is_kept() -> None:
    flat = Density(np.ones((1, 6, 6, 6)), np.eye(3) * 4, ("Al", "Al"), [[0, 0, 0], [0.5] * 3])
    found, report = primitive(flat)
    assert "the same everywhere" in str(report)
    assert found.charge == pytest.approx(flat.charge)


def test_cells_without_thickness_and_tolerances_without_sense_are_refused() -> None:
    thin = Density(np.ones((1, 4, 4, 4)), np.diag([3, 3, 0.01]), ("Al",), [[0, 0, 0]])
    with pytest.raises(DensityError, match=r"at least 0\.3 Å thick, found 0\.01 Å"):
        primitive(thin)
    density = promolecule(SALT, n=8)
    for tolerance in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="tolerance must be"):
            primitive(density, tolerance=tolerance)


def test_ten_thousand_atoms_take_seconds() -> None:
    aluminium = (np.array(SALT[0]) * 0.72, ["Al"], [[0, 0, 0]])
    large = repeat(promolecule(aluminium, n=6, sigma=0.5), (22, 22, 21))
    start = time.process_time()
    found, report = primitive(large)
    assert (report.repeats, len(found.species)) == (10164, 1)
    assert time.process_time() - start < 20


def test_a_grid_of_two_hundred_points_an_axis_takes_seconds() -> None:
    random = np.random.default_rng(0)
    density = Density(random.random((1, 200, 200, 200)), np.eye(3) * 20, ("Al",), [[0, 0, 0]])
    start = time.process_time()
    primitive(density)
    assert time.process_time() - start < 5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_reduced_bases_are_bases_with_the_shortest_vectors(seed: int) -> None:
    random = np.random.default_rng(seed)
    lattice = random.normal(size=(3, 3))
    if abs(np.linalg.det(lattice)) < 0.05:
        return
    change = np.eye(3, dtype=int)
    for _ in range(6):
        first, second = random.permutation(3)[:2]
        change[first] += int(random.integers(-3, 4)) * change[second]
    bases = reduced_bases(change @ lattice)
    np.testing.assert_allclose(np.abs(np.linalg.det(bases.astype(float))), 1)
    reduced = bases[0] @ change @ lattice
    lengths = np.linalg.norm(reduced, axis=1)
    assert (np.diff(lengths) > -1e-9).all()
    for wave in product(range(-3, 4), repeat=3):
        if wave[2]:
            assert np.linalg.norm(wave @ reduced) > lengths[2] * (1 - 1e-5)
        elif any(wave):
            assert np.linalg.norm(wave @ reduced) > lengths[0] * (1 - 1e-5)
    again = reduced_bases(lattice)[0] @ lattice
    np.testing.assert_allclose(lattice_parameters(again), lattice_parameters(reduced), atol=1e-6)


def test_grids_that_share_their_points_are_known() -> None:
    assert shared_grid(np.eye(3, dtype=int), 2, (8, 8, 8)) == (4, 4, 4)
    assert shared_grid(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]), 1, (8, 8, 9)) == (8, 8, 9)
    assert shared_grid(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]), 1, (8, 9, 9)) is None
    assert shared_grid(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), 2, (8, 8, 8)) is None


def test_smooth_counts_have_small_factors() -> None:
    counts = [smooth_count(n) for n in range(1, 200)]
    assert all(count >= n for n, count in enumerate(counts, start=1))
    assert {1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24, 25, 27, 30, 32} < set(counts)
    assert not {7, 11, 13, 14, 21, 22} & set(counts)


class TestDescriptions:
    @pytest.fixture
    def density(self) -> Density:
        return promolecule(TRICLINIC, n=20, sigma=0.3)

    @pytest.mark.parametrize("kind", EXACT_KINDS)
    def test_each_keeps_the_values_and_the_density_at_its_atoms(
        self, density: Density, kind: str
    ) -> None:
        for seed in range(4):
            other = equivalent_descriptions(density, np.random.default_rng(seed), [kind])
            n_cells = len(other.species) // 3
            assert other.charge == pytest.approx(n_cells * density.charge)
            assert other.volume == pytest.approx(n_cells * density.volume)
            values = np.sort(np.tile(density.values.ravel(), n_cells))
            np.testing.assert_array_equal(np.sort(other.values, axis=None), values)
            np.testing.assert_allclose(at_atoms(other), at_atoms(density, n_cells), rtol=1e-6)

    def test_a_finer_grid_is_the_same_series(self, density: Density) -> None:
        finer = refine(density, (20, 60, 40))
        assert finer.charge == pytest.approx(density.charge)
        np.testing.assert_allclose(finer.values[:, :, ::3, ::2], density.values, atol=1e-9)
        np.testing.assert_allclose(at_atoms(finer), at_atoms(density), rtol=1e-6)
        with pytest.raises(ConfigError, match="must not become coarser"):
            refine(density, (19, 20, 20))

    def test_unknown_kinds_are_refused(self, density: Density) -> None:
        with pytest.raises(ConfigError, match=r"kinds must be among supercell, .*, found mirror"):
            equivalent_descriptions(density, np.random.default_rng(0), ["mirror"])


def at_atoms(density: Density, repeats: int = 1) -> np.ndarray:
    """Sorted values at the atoms, which lie on grid points."""
    place = density.frac_coords * density.grid
    index = np.round(place).astype(int)
    np.testing.assert_allclose(place, index, atol=1e-6)
    i, j, k = (index % density.grid).T
    return np.sort(np.repeat(density.values[0, i, j, k], repeats))
