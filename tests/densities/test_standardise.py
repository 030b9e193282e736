import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgroup.densities import Density, read_density, standardise
from taskgroup.densities._resample import smooth_count
from taskgroup.densities.standardise import reciprocal_metric, squared_waves
from taskgroup.errors import ConfigError

SKEW = np.array([[4.0, 0.3, -0.2], [1.1, 3.7, 0.4], [-0.5, 0.9, 4.4]])


def periodic_gaussian(
    grid: tuple[int, int, int], width: float, center: np.ndarray, lattice: np.ndarray
) -> np.ndarray:
    """One electron in a Gaussian, summed over images in real space: a closed form without Fourier."""
    axes = [np.arange(n) / n for n in grid]
    frac = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    total = np.zeros(grid)
    for image in itertools.product(range(-2, 3), repeat=3):
        r = (frac - center + image) @ lattice
        total += np.exp(-(r**2).sum(-1) / (2 * width**2))
    return total / (2 * np.pi * width**2) ** 1.5


@pytest.mark.parametrize(
    ("grid", "n"), [((36, 36, 36), 24), ((20, 18, 22), 32), ((25, 24, 27), 21)]
)
def test_a_gaussian_low_passed_is_the_wider_gaussian(grid: tuple[int, int, int], n: int) -> None:
    width, sigma, center = 0.6, 0.45, np.array([0.2, 0.7, 0.4])
    density = Density(periodic_gaussian(grid, width, center, SKEW)[None], SKEW, ("H",), [center])
    result = standardise(density, n=n, sigma=sigma)
    expected = periodic_gaussian((n, n, n), np.hypot(width, sigma), center, SKEW)
    np.testing.assert_allclose(result.values[0], expected, atol=2e-5 * expected.max())


def test_resampling_alone_keeps_a_band_limited_field() -> None:
    rng = np.random.default_rng(1)
    coarse = Density(rng.random((2, 9, 9, 9)), SKEW, ("H",), [[0, 0, 0]])
    fine = standardise(coarse, n=27, sigma=0)
    np.testing.assert_allclose(fine.values[:, ::3, ::3, ::3], coarse.values, atol=1e-12)
    np.testing.assert_allclose(standardise(fine, n=9, sigma=0).values, coarse.values, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    grid=st.tuples(*[st.integers(1, 13)] * 3),
    n=st.integers(2, 17),
    sigma=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_both_channels_keep_their_integral_on_any_grid(
    grid: tuple, n: int, sigma: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(1, 1, (2, *grid))
    result = standardise(Density(values, SKEW, ("H",), [[0, 0, 0]]), n=n, sigma=sigma)
    assert result.values.shape == (2, n, n, n)
    np.testing.assert_allclose(result.values.mean((1, 2, 3)), values.mean((1, 2, 3)), atol=1e-12)


def test_shifting_the_origin_by_a_grid_vector_shifts_the_result(salt: Density) -> None:
    spread = standardise(salt, n=24, sigma=0)
    shifted = replace(spread, values=np.roll(spread.values, (3, 6, -9), axis=(1, 2, 3)))
    expected = np.roll(standardise(spread, n=8).values, (1, 2, -3), axis=(1, 2, 3))
    np.testing.assert_allclose(standardise(shifted, n=8).values, expected, atol=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_exchanging_axes_exchanges_the_result(salt: Density, order: tuple[int, int, int]) -> None:
    axes = [0, *(axis + 1 for axis in order)]
    turned = replace(salt, values=salt.values.transpose(axes), lattice=salt.lattice[list(order)])
    expected = standardise(salt, n=10).values.transpose(axes)
    np.testing.assert_allclose(standardise(turned, n=10).values, expected, atol=1e-12)


def test_reversing_an_axis_reverses_the_result(salt: Density) -> None:
    def reverse(values: np.ndarray) -> np.ndarray:
        return np.roll(values[:, ::-1], 1, axis=1)

    lattice = salt.lattice * np.array([-1, 1, 1])[:, None]
    turned = replace(salt, values=reverse(salt.values), lattice=lattice)
    np.testing.assert_allclose(
        standardise(turned, n=10).values, reverse(standardise(salt, n=10).values), atol=1e-12
    )


def test_rotating_the_crystal_changes_nothing(salt: Density) -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turned = replace(salt, lattice=salt.lattice @ rotation)
    np.testing.assert_allclose(
        standardise(turned, n=12).values, standardise(salt, n=12).values, atol=1e-12
    )


def test_a_wave_that_the_grid_cannot_hold_is_cut_not_folded() -> None:
    x = np.arange(24) / 24
    wave = np.cos(2 * np.pi * 7 * x)[:, None, None] * np.ones((24, 24, 24))
    density = Density((1 + wave)[None], SKEW, ("H",), [[0, 0, 0]])
    np.testing.assert_allclose(standardise(density, n=8, sigma=0).values, 1, atol=1e-12)
    assert standardise(density, n=16, sigma=0).values.max() == pytest.approx(2)


def test_wave_lengths_are_those_of_the_reciprocal_vectors() -> None:
    index = [np.array([-2, 0, 1]), np.array([0, 3]), np.array([-1, 0, 2, 4])]
    vectors = 2 * np.pi * np.linalg.inv(SKEW).T
    found = squared_waves(index, SKEW)
    for (i, h), (j, k), (m, n) in itertools.product(*(enumerate(axis) for axis in index)):
        assert found[i, j, m] == pytest.approx(
            ((h * vectors[0] + k * vectors[1] + n * vectors[2]) ** 2).sum()
        )
    np.testing.assert_allclose(reciprocal_metric(SKEW), vectors @ vectors.T)


@pytest.mark.parametrize("bad", [{"n": 1}, {"sigma": -0.1}, {"sigma": float("nan")}])
def test_a_grid_or_width_without_sense_is_refused(salt: Density, bad: dict) -> None:
    with pytest.raises(ConfigError, match="must be"):
        standardise(salt, **bad)


def test_the_charge_of_every_public_file_is_conserved(public_densities: Path) -> None:
    files = sorted(public_densities.glob("*.gz"))
    assert len(files) >= 20
    for file in files:
        density = read_density(file, all_electron=True)
        result = standardise(density)
        assert result.charge == pytest.approx(density.charge, rel=1e-6), file.name
        np.testing.assert_allclose(
            result.values.mean((1, 2, 3)), density.values.mean((1, 2, 3)), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("spacing", [0.2, 0.31, 0.5])
def test_a_spacing_gives_each_axis_its_own_points(spacing: float) -> None:
    lattice = np.diag([3.0, 5.0, 11.0])
    density = Density(
        periodic_gaussian((30, 50, 110), 0.6, np.full(3, 0.3), lattice)[None],
        lattice,
        ("H",),
        [[0.3] * 3],
    )
    result = standardise(density, spacing=spacing, sigma=0.3)
    for points, length in zip(result.grid, (3.0, 5.0, 11.0), strict=True):
        assert length / points <= spacing * (1 + 1e-9)
        assert length / points > spacing * 0.79
        assert points == smooth_count(points)
    assert result.charge == pytest.approx(density.charge, rel=1e-12)
    expected = periodic_gaussian(result.grid, np.hypot(0.6, 0.3), np.full(3, 0.3), lattice)
    np.testing.assert_allclose(result.values[0], expected, atol=2e-3 * expected.max())


def test_a_spacing_is_the_same_as_its_points(salt: Density) -> None:
    cube = replace(salt, lattice=np.eye(3) * 4)
    by_spacing = standardise(cube, spacing=0.25, sigma=0.2)
    assert by_spacing.grid == (16, 16, 16)
    np.testing.assert_array_equal(by_spacing.values, standardise(cube, n=16, sigma=0.2).values)


@pytest.mark.parametrize("spacing", [0, -0.1, float("nan"), float("inf"), 1e-4])
def test_a_spacing_without_sense_is_refused(salt: Density, spacing: float) -> None:
    with pytest.raises(ConfigError, match="spacing"):
        standardise(salt, spacing=spacing)
