"""One form for one crystal: the primitive cell, on a standard grid, with the highest peak at the origin.

A property depends neither on the choice of cell nor on that of the origin. What networks see is sampled on a grid, and
the samples would depend a little on where the grid lies. So the grid is laid through the highest maximum of the
density, found between the grid points.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from taskgroup.densities.cell import CellReport, primitive
from taskgroup.densities.density import Density
from taskgroup.densities.primitive_promolecule import primitive_promolecule
from taskgroup.densities.standardise import standardise

# Newton's method doubles the digits at each step; from a grid point five steps reach rounding.
_MOST_STEPS = 12
_CONVERGED = 1e-12
# Share of a grid step by which a maximum may miss a grid point and count as lying there.
_ON_GRID = 1e-6


def standard_form(
    density: Density, n: int | None = 32, sigma: float = 0.20, *, spacing: float | None = None
) -> tuple[Density, CellReport]:
    """Return the density in its primitive cell on a standard grid, low-passed with ``sigma`` Å, and what was done.

    The grid has n x n x n points or, with ``spacing`` (Å), as many along each vector as ``spaced_grid`` gives.
    Descriptions of one crystal by other cells, origins or orders of the vectors give the same values, up to the
    symmetry of the crystal. See ``primitive`` and ``standardise`` for what is conserved, and their errors.
    """
    cell, report = primitive(density)
    return peak_at_origin(standardise(cell, n, sigma, spacing=spacing)), report


def standard_promolecule(
    structure: Any,
    n: int | None = 32,
    sigma: float = 0.20,
    source: str = "memory",
    *,
    spacing: float | None = None,
) -> tuple[Density, CellReport]:
    """Return the free-atom density of a structure in the same form; see ``primitive_promolecule``."""
    cell, report = primitive_promolecule(structure, n, sigma, source, spacing=spacing)
    return peak_at_origin(cell), report


def peak_at_origin(density: Density) -> Density:
    """Return the density shifted, by its Fourier series, so that its highest maximum lies at the origin."""
    peak = _highest_maximum(density.values[0])
    grid = np.array(density.grid)
    steps = np.round(peak * grid)
    if np.abs(peak * grid - steps).max() < _ON_GRID:
        # Values only change places, so they stay what they are.
        shift = tuple(-steps.astype(int))
        values = np.roll(density.values, shift, axis=(1, 2, 3))
        peak = steps / grid
    else:
        values = _shifted(density.values, peak)
    return replace(density, values=values, frac_coords=(density.frac_coords - peak) % 1.0)


def _highest_maximum(values: np.ndarray) -> np.ndarray:
    """Return the fractional coordinates [3] of the highest maximum of the Fourier series through values [x, y, z]."""
    place = np.unravel_index(int(values.argmax()), values.shape)
    start = np.array(place) / values.shape
    waves = np.fft.fftn(values, norm="forward")
    point = start
    for _ in range(_MOST_STEPS):
        slope, curvature = _derivatives(waves, point)
        # At a maximum all curvatures are negative; elsewhere (a flat field) there is nothing to refine.
        if np.linalg.eigvalsh(curvature).max() >= 0:
            return start
        step = -np.linalg.solve(curvature, slope)
        # The maximum lies within one grid step of the highest grid point.
        step = np.clip(step, -1 / np.array(values.shape), 1 / np.array(values.shape))
        point = point + step
        if np.abs(step).max() < _CONVERGED:
            break
    return point


def _derivatives(waves: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient [3] and second derivatives [3, 3], in fractional coordinates, of a Fourier series at a point."""
    factors = [2j * np.pi * np.fft.fftfreq(n, 1 / n) for n in waves.shape]
    phases = [np.exp(factor * x) for factor, x in zip(factors, point, strict=True)]

    def derivative(*orders: int) -> float:
        rest = waves
        # From the last axis to the first: each product removes one axis.
        for axis in (2, 1, 0):
            rest = rest @ (phases[axis] * factors[axis] ** orders[axis])
        return float(rest.real)

    slope = np.empty(3)
    curvature = np.empty((3, 3))
    for first in range(3):
        orders = [0, 0, 0]
        orders[first] += 1
        slope[first] = derivative(*orders)
        for second in range(3):
            both = list(orders)
            both[second] += 1
            curvature[first, second] = derivative(*both)
    return slope, curvature


def _shifted(values: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return values [C, x, y, z] moved by minus ``shift`` (fractional)."""
    waves = np.fft.fftn(values, axes=(1, 2, 3))
    for axis, n in enumerate(values.shape[1:], start=1):
        phase = np.exp(2j * np.pi * np.fft.fftfreq(n, 1 / n) * shift[axis - 1])
        shape = [1, 1, 1, 1]
        shape[axis] = n
        waves = waves * phase.reshape(shape)
    return np.fft.ifftn(waves, axes=(1, 2, 3)).real
