"""Cubes whose atoms state pseudopotential charges: a small miss is mended and told, a larger one is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import read_density
from taskgroup.errors import DensityError

EDGE, POINTS = 8.0, 8  # Bohr


def write_cube(path: Path, electrons: float) -> Path:
    """Write a smooth density of two fluorine atoms that state 7 valence electrons each."""
    x = np.arange(POINTS) / POINTS
    wave = 1 + 0.5 * np.cos(2 * np.pi * x)
    values = wave[:, None, None] * wave[None, :, None] * wave[None, None, :]
    values *= electrons / (values.mean() * EDGE**3)
    step = EDGE / POINTS
    lines = ["total", "electron density", "2 0 0 0"]
    for axis in range(3):
        vector = [0.0, 0.0, 0.0]
        vector[axis] = step
        lines.append(" ".join(map(str, [POINTS, *vector])))
    lines += ["9 7.0 0 0 0", "9 7.0 4 4 4"]
    lines += [" ".join(f"{value:.6E}" for value in row) for row in values.reshape(-1, POINTS)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def test_a_small_miss_is_scaled_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        density = read_density(write_cube(tmp_path / "total.cube", 14 * 0.9985))
    assert density.charge == pytest.approx(14, abs=1e-6)
    assert "13.9790 electrons where its atoms state 14" in caplog.text


def test_a_whole_number_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        density = read_density(write_cube(tmp_path / "total.cube", 14))
    assert density.charge == pytest.approx(14, abs=1e-4)
    assert not caplog.text


def test_a_larger_miss_is_refused(tmp_path: Path):
    with pytest.raises(DensityError, match="electrons"):
        read_density(write_cube(tmp_path / "total.cube", 14 * 0.99))
