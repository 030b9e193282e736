"""A field on the grid of one cell, brought to a grid of another cell of the same crystal."""

import itertools
import math
from fractions import Fraction

import numpy as np
from scipy import fft

# Of a field's variation (root mean square): waves that together are smaller are rounding.
_NEGLIGIBLE = 1e-7
# A new grid has at most so many points for each point of the old one; beyond, the highest waves are cut.
_MOST_GROWTH = 4.0


def shared_grid(
    basis: np.ndarray, denominator: int, grid: tuple[int, int, int]
) -> tuple[int, int, int] | None:
    """Return the grid of the new cell whose points are just the points of the old grid, or None if there is none.

    The new cell's vectors are basis / denominator, int [3, 3], in those of the old cell.
    """
    # The old grid's vectors in those of the new cell: rows e_i / N_i times the inverse of the basis.
    inverse, determinant = _integer_inverse(basis)
    steps = [
        [Fraction(int(inverse[i][j]) * denominator, int(determinant) * grid[i]) for j in range(3)]
        for i in range(3)
    ]
    points = []
    for column in range(3):
        common = math.lcm(*(steps[row][column].denominator for row in range(3)))
        numerators = [int(steps[row][column] * common) for row in range(3)]
        divisor = math.gcd(*numerators)
        if divisor != 1:
            return None
        points.append(common)
    change = np.array(
        [[int(steps[i][j] * points[j]) for j in range(3)] for i in range(3)], dtype=float
    )
    if abs(abs(np.linalg.det(change)) - 1) > 0.5:
        return None
    return tuple(points)


def gathered(
    values: np.ndarray,
    basis: np.ndarray,
    denominator: int,
    points: tuple[int, int, int],
    translations: np.ndarray,
) -> np.ndarray:
    """Return the values at the new cell's grid points, all of which are points of the old grid: [C, *points].

    They are means over the translations, int [n, 3], in units of 1 / denominator of the old vectors.
    """
    grid = values.shape[1:]
    flat = values.reshape(len(values), -1)
    places = []
    shifts = []
    for axis in range(3):
        # x_old = sum_i (j_i / n_i) basis_i / denominator; in points of the old grid these are whole numbers.
        place = np.zeros(points, dtype=np.int64)
        for i in range(3):
            step = Fraction(int(basis[i][axis]) * grid[axis], denominator * points[i])
            along = np.arange(points[i]) * int(step)
            place += along.reshape([-1 if j == i else 1 for j in range(3)])
        places.append(place)
        shifts.append([0, *(translations[:, axis] * grid[axis] // denominator).tolist()])
    total = np.zeros((len(values), *points))
    for shift in zip(*shifts, strict=True):
        index = np.zeros(points, dtype=np.int64)
        for place, step, n in zip(places, shift, grid, strict=True):
            index = index * n + (place + step) % n
        total += flat[:, index]
    return total / (len(translations) + 1)


def resampled(values: np.ndarray, basis: np.ndarray, denominator: int) -> tuple[np.ndarray, float]:
    """Return the field on a grid of the new cell by its Fourier series, and the share of its variation that was cut.

    Waves that do not fit the new cell are those that its translations average away.
    """
    indices, waves = _waves(values)
    scaled = indices @ basis.T
    fits = (scaled % denominator == 0).all(axis=1)
    new_indices = scaled[fits] // denominator
    waves = waves[:, fits]
    n_cells = denominator**3 / abs(round(np.linalg.det(basis.astype(float))))
    most_points = max(_MOST_GROWTH * values[0].size / n_cells, 64)
    limits = _limits(new_indices, waves, most_points)
    points = tuple(_smooth(2 * limit + 1) for limit in limits)
    held = (2 * np.abs(new_indices) < points).all(axis=1)
    energy = np.square(np.abs(waves))
    energy[:, ~new_indices.any(axis=1)] = 0
    cut = float(np.sqrt(energy[0, ~held].sum() / max(energy[0].sum(), 1e-300)))
    spectrum = np.zeros((len(values), *points), dtype=complex)
    place = tuple((new_indices[held] % points).T)
    for channel in range(len(values)):
        np.add.at(spectrum[channel], place, waves[channel, held])
    return fft.ifftn(spectrum, axes=(1, 2, 3), norm="forward").real, cut


def _waves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the wave indices, int [n, 3], and coefficients, [C, n], of all waves that are not rounding.

    The highest wave of an even grid is shared equally by the two indices that it may stand for.
    """
    grid = values.shape[1:]
    waves = fft.fftn(values, axes=(1, 2, 3), norm="forward")
    size = np.abs(waves).max(axis=0)
    # Each of the N waves may be off by this much of the whole variation.
    variation = math.sqrt(max(float(np.square(size).sum()), 1e-300))
    kept = size > _NEGLIGIBLE * variation / math.sqrt(size.size) * 1e-3
    kept[0, 0, 0] = True
    places = np.argwhere(kept)
    coefficients = waves[:, kept]
    halves = np.array(grid) / 2
    indices = np.where(places > halves, places - np.array(grid), places)
    for axis in range(3):
        highest = 2 * indices[:, axis] == grid[axis]
        if highest.any():
            mirrored = indices[highest].copy()
            mirrored[:, axis] *= -1
            coefficients[:, highest] *= 0.5
            coefficients = np.concatenate([coefficients, coefficients[:, highest]], axis=1)
            indices = np.concatenate([indices, mirrored])
    return indices, coefficients


def _limits(indices: np.ndarray, waves: np.ndarray, most_points: float) -> list[int]:
    """Return the highest index along each new axis that the new grid must hold."""
    energy = np.square(np.abs(waves)).sum(axis=0)
    energy[~indices.any(axis=1)] = 0
    allowed = _NEGLIGIBLE**2 * energy.sum()
    limits = []
    for axis in range(3):
        size = np.abs(indices[:, axis])
        by_index = np.bincount(size, weights=energy)
        beyond = np.cumsum(by_index[::-1])[::-1]
        needed = np.flatnonzero(beyond > allowed)
        limits.append(int(needed.max()) if needed.size else 0)
    while math.prod(2 * limit + 1 for limit in limits) > most_points:
        limits = [int(0.95 * limit) for limit in limits]
    return limits


def _integer_inverse(matrix: np.ndarray) -> tuple[list[list[int]], int]:
    """Return the adjugate and the determinant of an integer matrix, exactly."""
    m = [[int(x) for x in row] for row in matrix]
    cofactor = [[0] * 3 for _ in range(3)]
    for i, j in itertools.product(range(3), repeat=2):
        rows = [row for row in range(3) if row != i]
        columns = [column for column in range(3) if column != j]
        minor = (
            m[rows[0]][columns[0]] * m[rows[1]][columns[1]]
            - m[rows[0]][columns[1]] * m[rows[1]][columns[0]]
        )
        cofactor[i][j] = (-1) ** (i + j) * minor
    determinant = sum(m[0][j] * cofactor[0][j] for j in range(3))
    adjugate = [[cofactor[j][i] for j in range(3)] for i in range(3)]
    return adjugate, determinant


def _smooth(n: int) -> int:
    return smooth_count(n)


def smooth_count(least: int) -> int:
    """Return the smallest number of points, at least ``least``, whose prime factors are 2, 3 and 5.

    >>> [smooth_count(n) for n in (1, 7, 11, 31, 49)]
    [1, 8, 12, 32, 50]
    """
    count = max(int(least), 1)
    while True:
        rest = count
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return count
        count += 1
