"""Differential fields and low-passes against closed forms and FFTs; equivariance."""

import math

import numpy as np
import pytest
import torch

from taskgroup.models.fields import (
    cartesian_gradient,
    density_fields,
    derivative_matrix,
    divergence,
    low_passes,
    scale_values,
)
from taskgroup.models.lattice import reciprocal

from .conftest import make_cells, make_densities

ALL = ("density", "gradient", "laplacian", "reduced_gradient")
WAVES = ((1, 0, 2), (3, -2, 1), (0, 1, -1))
PHASES = (0.3, 1.0, 2.0)


def waves(cell, n, function):
    """Sum over plane waves of ``function(k, phase at each point)``; k in 1/Å."""
    x = torch.arange(n, dtype=torch.float64) / n
    inverse = torch.linalg.inv(cell)
    total = 0
    for h, shift in zip(WAVES, PHASES, strict=True):
        k = 2 * math.pi * inverse @ torch.tensor(h, dtype=torch.float64)
        angle = 2 * math.pi * (h[0] * x[:, None, None] + h[1] * x[:, None] + h[2] * x) + shift
        total = total + function(k, angle)
    return total


@pytest.fixture
def cell():
    return make_cells(1)[0].double()


@pytest.mark.parametrize("n", [12, 13])
def test_gradient_and_laplacian_of_plane_waves_are_exact(cell, n):
    values = waves(cell, n, lambda k, angle: torch.cos(angle))[None, None]
    inverse = reciprocal(cell[None])
    gradient = cartesian_gradient(values, inverse)
    torch.testing.assert_close(
        gradient[0, :, 0], waves(cell, n, lambda k, a: -k[:, None, None, None] * torch.sin(a))
    )
    laplacian = divergence(gradient, inverse)
    torch.testing.assert_close(
        laplacian[0, 0], waves(cell, n, lambda k, a: -(k @ k) * torch.cos(a))
    )


@pytest.mark.parametrize("n", [12, 13])
def test_a_low_pass_damps_each_plane_wave_by_its_gaussian(cell, n):
    values = 5 + waves(cell, n, lambda k, angle: torch.cos(angle))[None, None]
    found = low_passes(values, reciprocal(cell[None]), (0.2, 0.3))
    for width, smooth in zip((0.2, 0.3), found, strict=True):
        expected = 5 + waves(
            cell, n, lambda k, a, w=width: math.exp(-0.5 * w**2 * float(k @ k)) * torch.cos(a)
        )
        torch.testing.assert_close(smooth[0, 0], expected)


@pytest.mark.parametrize("n", [8, 9])
def test_low_passes_agree_with_an_fft_and_keep_the_charge(n):
    density, cells = make_densities(2, n=n, seed=3).double(), make_cells(2, seed=1).double()
    density = density + torch.rand(density.shape, dtype=torch.float64)
    (found,) = low_passes(density, reciprocal(cells), (0.35,))
    index = np.fft.fftfreq(n, 1 / n)
    h = np.stack(np.meshgrid(index, index, index, indexing="ij"), axis=-1)
    for rho, cell, smooth in zip(
        density[:, 0].numpy(), cells.numpy(), found[:, 0].numpy(), strict=True
    ):
        k = 2 * np.pi * h @ np.linalg.inv(cell).T
        spectrum = np.fft.fftn(rho) * np.exp(-0.5 * 0.35**2 * (k**2).sum(-1))
        if n % 2 == 0:  # the highest frequency has no sign
            spectrum[(np.abs(h) == n // 2).any(-1)] = 0
        np.testing.assert_allclose(smooth, np.fft.ifftn(spectrum).real, atol=1e-12)
    torch.testing.assert_close(found.mean((2, 3, 4)), density.mean((2, 3, 4)))


@pytest.mark.parametrize("n", [4, 7, 32])
def test_the_derivative_of_a_constant_is_zero_and_the_matrix_antisymmetric(n):
    matrix = derivative_matrix(n, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(matrix, -matrix.T, rtol=1e-9, atol=1e-9)
    assert matrix.sum(1).abs().max() < 1e-9


def test_the_reduced_gradient_is_perdews(cell):
    density, cells = make_densities(1).double(), cell[None]
    rho, slope, s = density_fields(density, cells, ("density", "gradient", "reduced_gradient"), ())[
        0
    ]
    rho = rho * 0.5  # fields come in units of a valence electron's
    expected = slope / (2 * (3 * math.pi**2) ** (1 / 3) * rho ** (4 / 3))
    torch.testing.assert_close(s, expected)


def test_the_reduced_gradient_is_finite_in_vacuum_and_below():
    density = make_densities(1) - 2.2
    assert (density < 0).any()
    fields = density_fields(density, make_cells(1), ALL, (0.4,))
    assert torch.isfinite(fields).all()
    assert fields[:, 3].max() <= 20


def test_channels_come_width_by_width_then_field_by_field():
    density, cells = make_densities(2, channels=2), make_cells(2)
    fields = density_fields(density, cells, ("density", "gradient"), (0.5,))
    assert fields.shape[1] == 8
    torch.testing.assert_close(fields[:, :2] * 0.5, density)
    (smooth,) = low_passes(density, reciprocal(cells), (0.5,))
    torch.testing.assert_close(fields[:, 4:6] * 0.5, smooth)
    assert fields[:, 6:8].mean() < fields[:, 2:4].mean()


@pytest.mark.parametrize(
    ("move", "turn"),
    [
        (lambda x: x.roll((3, -1, 5), (2, 3, 4)), lambda cells: cells),
        (lambda x: x.permute(0, 1, 4, 2, 3), lambda cells: cells[:, [2, 0, 1]]),
        (
            lambda x: x.flip(3).roll(1, 3),
            lambda cells: cells * torch.tensor([1.0, -1.0, 1.0])[:, None],
        ),
    ],
    ids=["origin", "order", "sign"],
)
def test_fields_move_with_origin_order_and_sign_of_the_cell(move, turn):
    density, cells = make_densities(2).double(), make_cells(2).double()
    fields = density_fields(density, cells, ALL, (0.3, 0.6))
    moved = density_fields(move(density), turn(cells), ALL, (0.3, 0.6))
    torch.testing.assert_close(moved, move(fields), rtol=1e-9, atol=1e-9)


def test_fields_do_not_depend_on_orientation():
    density, cells = make_densities(2).double(), make_cells(2).double()
    rotation, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    there, here = (
        density_fields(density, lattice, ALL, (0.4,)) for lattice in (cells @ rotation, cells)
    )
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)


def test_a_supercell_has_the_fields_of_its_cell():
    density, cells = make_densities(1, n=8).double(), make_cells(1).double()
    once = density_fields(density, cells, ALL, (0.4,))
    twice = density_fields(density.repeat(1, 1, 2, 2, 2), 2 * cells, ALL, (0.4,))
    torch.testing.assert_close(twice, once.repeat(1, 1, 2, 2, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scaling", ["cbrt", "log", "none"])
def test_scaling_keeps_sign_and_order(scaling):
    values = torch.linspace(-50, 50, 101)
    scaled = scale_values(values, scaling)
    assert (scaled.diff() > 0).all()
    torch.testing.assert_close(scaled, -scaled.flip(0), rtol=1e-4, atol=2e-4)


def test_the_cube_root_is_one():
    torch.testing.assert_close(
        scale_values(torch.tensor([8.0, -27.0]), "cbrt"), torch.tensor([2.0, -3.0])
    )


def test_a_grid_with_three_lengths_gives_the_same_field_as_a_cube_at_the_points_both_have(cell):
    cube = waves(cell, 24, lambda k, angle: torch.cos(angle))[None, None] + 5
    part = cube[:, :, ::2, :, ::3]
    whole = density_fields(cube, cell[None], ALL, (0.3,))
    found = density_fields(part, cell[None], ALL, (0.3,))
    torch.testing.assert_close(found, whole[:, :, ::2, :, ::3])
