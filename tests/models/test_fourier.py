"""Fourier series by products with matrices: against numpy's transform and closed forms."""

import math

import numpy as np
import pytest
import torch

from taskgroup.models.fourier import sampled, wave_vectors, waves
from taskgroup.models.lattice import reciprocal


@pytest.mark.parametrize("grid", [(6, 6, 6), (5, 6, 9)])
def test_coefficients_are_those_of_numpy(grid):
    field = torch.randn(2, 1, *grid, dtype=torch.float64)
    real, imaginary = waves(field)
    expected = np.fft.fftn(field.numpy(), axes=(2, 3, 4), norm="forward")
    for axis, n in enumerate(grid[:2], start=2):
        highest = (n - 1) // 2
        expected = expected.take(range(-highest, highest + 1), axis=axis)
    expected = expected[..., : (grid[2] - 1) // 2 + 1]
    np.testing.assert_allclose(real + 1j * imaginary, expected, atol=1e-12)


def test_a_wave_is_sampled_exactly_at_any_number_of_points():
    def wave(n):
        x = torch.arange(n, dtype=torch.float64) / n
        phase = 2 * math.pi * (x[:, None, None] - 2 * x[:, None] + 3 * x)
        return 0.5 + torch.cos(phase + 0.3)[None, None]

    for n in (5, 7, 16):
        torch.testing.assert_close(sampled(waves(wave(8)), (n, n, n)), wave(n), rtol=0, atol=1e-12)


def test_wave_vectors_are_orthogonal_to_the_other_cell_vectors():
    lattice = torch.tensor([[[3.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.5, 0.2, 5.0]]])
    vectors = wave_vectors((6, 6, 6), reciprocal(lattice))
    # the series of 6 points has indices -2 to 2, and 0 to 2 along the last axis
    first, last = vectors[0, :, 3, 2, 0], vectors[0, :, 2, 2, 1]
    along = 2 * math.pi * torch.eye(3)
    torch.testing.assert_close(lattice[0] @ first, along[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lattice[0] @ last, along[2], rtol=1e-5, atol=1e-5)
