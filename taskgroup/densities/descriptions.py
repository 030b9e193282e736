"""Other descriptions of the same crystal: what a prediction must not depend on.

``equivalent_descriptions`` is used by the tests of every room and by benchmarks; it needs no test library.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from scipy import fft

from taskgroup.densities.density import Density
from taskgroup.errors import ConfigError

#: Ways to describe one crystal. All but ``grid`` only rearrange values; ``basis`` needs axes with equally many points.
KINDS = ("supercell", "basis", "origin", "order", "rotation", "grid")
EXACT_KINDS = ("supercell", "basis", "origin", "order", "rotation")


def equivalent_descriptions(
    density: Density,
    random: np.random.Generator,
    kinds: Collection[str] = EXACT_KINDS,
    *,
    largest_repeat: int = 3,
    most_points: int = 2_000_000,
) -> Density:
    """Return the same crystal described otherwise, at random.

    Parameters
    ----------
    kinds: any of
        ``supercell`` (1 to ``largest_repeat`` cells along each vector, in all at most ``most_points`` grid points),
        ``basis`` (a unimodular change of the vectors by up to four shears),
        ``origin`` (a shift by a vector of the grid),
        ``order`` (of the vectors, and their signs),
        ``rotation`` (of the frame),
        ``grid`` (a finer native grid, by the Fourier series).

    The values are those of ``density`` (repeated, in another order), unless ``grid`` is asked for, or ``basis`` for
    axes with different numbers of points. Raises ConfigError for an unknown kind.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ConfigError(f"kinds must be among {', '.join(KINDS)}, found {', '.join(unknown)}")
    if "grid" in kinds:
        density = _finer(density, random)
    if "origin" in kinds:
        density = _shifted(density, random)
    if "basis" in kinds:
        density = _sheared(density, random)
    if "supercell" in kinds:
        density = _repeated(density, random, largest_repeat, most_points)
    if "order" in kinds:
        density = _reordered(density, random)
    if "rotation" in kinds:
        density = _rotated(density, random)
    return density


def repeat(density: Density, counts: tuple[int, int, int]) -> Density:
    """Return a supercell with so many cells along each vector."""
    n_cells = int(np.prod(counts))
    shifts = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    frac_coords = (density.frac_coords[:, None] + shifts) / counts
    species = tuple(symbol for symbol in density.species for _ in range(n_cells))
    return replace(
        density,
        values=np.tile(density.values, (1, *counts)),
        lattice=density.lattice * np.array(counts)[:, None],
        species=species,
        frac_coords=frac_coords.reshape(-1, 3),
    )


def refine(density: Density, grid: tuple[int, int, int]) -> Density:
    """Return the density's Fourier series on another grid, which must be as fine as its own along each axis."""
    values = density.values
    for axis, points in enumerate(grid, start=1):
        old = values.shape[axis]
        if points == old:
            continue
        if points < old:
            raise ConfigError(f"the grid must not become coarser, found {points} points for {old}")
        waves = np.moveaxis(fft.fft(values, axis=axis), axis, 0)
        padded = np.zeros((points, *waves.shape[1:]), dtype=complex)
        half = (old + 1) // 2
        padded[:half] = waves[:half]
        if old > half:
            padded[half - old :] = waves[half:]
        if old % 2 == 0:
            # The highest wave of an even grid belongs to both of its indices.
            padded[-half] = waves[half] / 2
            padded[half] = padded[-half]
        values = np.moveaxis(fft.ifft(padded, axis=0).real * (points / old), 0, axis)
    return replace(density, values=values)


def _finer(density: Density, random: np.random.Generator) -> Density:
    grid = tuple(points + int(random.integers(0, points // 2 + 1)) for points in density.grid)
    return refine(density, grid)


def _shifted(density: Density, random: np.random.Generator) -> Density:
    shift = random.integers(0, density.grid)
    values = np.roll(density.values, tuple(shift), axis=(1, 2, 3))
    frac_coords = (density.frac_coords + shift / density.grid) % 1.0
    return replace(density, values=values, frac_coords=frac_coords)


def _sheared(density: Density, random: np.random.Generator) -> Density:
    if len(set(density.grid)) > 1:
        density = refine(density, (max(density.grid),) * 3)
    for _ in range(random.integers(1, 5)):
        first, second = random.permutation(3)[:2]
        density = _shear(density, int(first), int(second), int(random.choice([-2, -1, 1, 2])))
    return density


def _shear(density: Density, first: int, second: int, factor: int) -> Density:
    """Add ``factor`` times the second vector to the first; both must have equally many points."""
    points = density.grid[first]
    lattice = density.lattice.copy()
    lattice[first] += factor * lattice[second]
    frac_coords = density.frac_coords.copy()
    frac_coords[:, second] -= factor * frac_coords[:, first]
    index = np.indices(density.grid)
    index[second] = (index[second] + factor * index[first]) % points
    values = density.values[:, index[0], index[1], index[2]]
    return replace(density, values=values, lattice=lattice, frac_coords=frac_coords % 1.0)


def _repeated(
    density: Density, random: np.random.Generator, largest: int, most_points: int
) -> Density:
    counts = random.integers(1, largest + 1, size=3)
    while counts.prod() * density.values[0].size > most_points and counts.max() > 1:
        counts[counts.argmax()] -= 1
    return repeat(density, tuple(int(count) for count in counts))


def _reordered(density: Density, random: np.random.Generator) -> Density:
    order = random.permutation(3)
    values = density.values.transpose(0, *(order + 1))
    lattice = density.lattice[order]
    frac_coords = density.frac_coords[:, order]
    for axis in range(3):
        if random.random() < 0.5:
            # Point i becomes point -i.
            values = np.roll(np.flip(values, axis + 1), 1, axis=axis + 1)
            lattice = lattice * np.where(np.arange(3) == axis, -1, 1)[:, None]
            frac_coords = frac_coords * np.where(np.arange(3) == axis, -1, 1)
    return replace(density, values=values, lattice=lattice, frac_coords=frac_coords % 1.0)


def _rotated(density: Density, random: np.random.Generator) -> Density:
    rotation, upper = np.linalg.qr(random.normal(size=(3, 3)))
    rotation = rotation * np.sign(np.diag(upper))
    if np.linalg.det(rotation) < 0:
        rotation[:, 0] *= -1
    return replace(density, lattice=density.lattice @ rotation)
