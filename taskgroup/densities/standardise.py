"""Any grid to one grid: low-pass with an isotropic Gaussian in Å, then sample exactly.

- Everything happens on Fourier coefficients, so nothing is interpolated and the mean, which is the charge, is kept.
- The Gaussian is isotropic in real space whatever the cell: exp(-sigma^2 |G|^2 / 2) with G in 1/Å.
- Coefficients that either grid cannot hold (index of n/2 and above, the unpaired Nyquist index of an even grid
  included) are cut, not folded back: the field stays real and no wave appears under a false name. With
  ``sigma >= 0.8 longest edge / n`` what is cut was damped below 5 % already; in coarser grids the cut rings like any
  sharp low-pass, but the charge is still exact.
"""

from dataclasses import replace

import numpy as np
from scipy import fft

from taskgroup.densities._resample import smooth_count
from taskgroup.densities.density import Density
from taskgroup.errors import ConfigError

# Å. Together with the low-pass of 0.20 Å, the waves that a grid cannot hold were damped below 1 %.
DEFAULT_SPACING = 0.2
# A cell of 500 atoms has about 1.5 million points at 0.2 Å, one with much vacuum ten times as many; more is a mistake
# of units and would fill the memory (16 bytes a point, several times over).
_MOST_POINTS = 2**25


def standardise(
    density: Density, n: int | None = 32, sigma: float = 0.20, *, spacing: float | None = None
) -> Density:
    """Return the density on a standard grid, low-passed with an isotropic Gaussian of width ``sigma`` in Å.

    The grid has n x n x n points or, with ``spacing`` (Å), as many along each vector as ``spaced_grid`` gives.
    Charge is conserved, in both channels. The result keeps lattice, atoms, kind and source; it commutes with shifts of
    the origin, with exchanging axes and with rotating the crystal. ``sigma = 0`` only resamples.
    Raises ConfigError where ``n < 2``, ``sigma < 0`` or the spacing is not a length.
    """
    grid = standard_grid(density.lattice, n, sigma, spacing)
    return replace(density, values=sampled(density.values, density.lattice, grid, sigma))


def sampled(
    values: np.ndarray, lattice: np.ndarray, grid: tuple[int, int, int], sigma: float = 0.0
) -> np.ndarray:
    """Return a field [C, n1, n2, n3] low-passed with ``sigma`` Å and sampled on another grid: [C, *grid]."""
    old_grid = values.shape[1:]
    waves = fft.rfftn(values, axes=(1, 2, 3), norm="forward")
    kept = [held_indices(min(pair)) for pair in zip(grid, old_grid, strict=True)]
    # A real field needs no negative indices along its last axis.
    kept[2] = kept[2][kept[2] >= 0]
    damping = np.exp(-0.5 * sigma**2 * squared_waves(kept, lattice))
    old_places = [index % points for index, points in zip(kept, old_grid, strict=True)]
    new_places = [index % points for index, points in zip(kept, grid, strict=True)]
    spectrum = np.zeros((len(values), grid[0], grid[1], grid[2] // 2 + 1), dtype=complex)
    for channel in range(len(values)):
        spectrum[channel][np.ix_(*new_places)] = waves[channel][np.ix_(*old_places)] * damping
    return fft.irfftn(spectrum, s=grid, axes=(1, 2, 3), norm="forward")


def standard_grid(
    lattice: np.ndarray, n: int | None, sigma: float, spacing: float | None
) -> tuple[int, int, int]:
    """Return the points along each vector: by the spacing (Å) where there is one, else n along each."""
    if spacing is not None:
        check_width(sigma)
        return spaced_grid(lattice, spacing)
    check_grid(n, sigma)
    return n, n, n


def spaced_grid(lattice: np.ndarray, spacing: float) -> tuple[int, int, int]:
    """Return the points along each vector: the fewest at most ``spacing`` Å apart with prime factors 2, 3 and 5.

    >>> spaced_grid(np.diag([3.0, 4.1, 10.0]), spacing=0.2)
    (15, 24, 50)
    """
    if not 0 < spacing < np.inf:
        raise ConfigError(f"spacing must be a length in Å above 0, found {spacing}")
    lengths = np.linalg.norm(lattice, axis=1)
    # Rounding must not ask for one more point than a length that the spacing divides.
    needed = np.maximum(np.ceil(lengths / spacing - 1e-9), 2)
    if needed.prod() > _MOST_POINTS:
        sides = " x ".join(f"{length:.1f}" for length in lengths)
        raise ConfigError(
            f"a spacing of {spacing:g} Å gives {needed.prod():.2g} points in a cell of {sides} Å, "
            f"at most {_MOST_POINTS} are computed; choose a wider spacing, or check the unit of the lattice"
        )
    first, second, third = (smooth_count(int(least)) for least in needed)
    return first, second, third


def check_grid(n: int, sigma: float) -> None:
    """Refuse a grid that holds no wave and a width that is not one."""
    if n < 2:
        raise ConfigError(f"n must be at least 2 points an axis, found {n}")
    check_width(sigma)


def check_width(sigma: float) -> None:
    """Refuse a width that is not one."""
    if not 0 <= sigma < np.inf:
        raise ConfigError(f"sigma must be a width in Å, 0 or more, found {sigma}")


def held_indices(points: int) -> np.ndarray:
    """Return the wave indices that a grid of so many points holds in pairs: those below half of it, FFT order."""
    index = np.fft.ifftshift(np.arange(-(points // 2), points - points // 2))
    return index[2 * np.abs(index) < points]


def squared_waves(indices: list[np.ndarray], lattice: np.ndarray) -> np.ndarray:
    """Return |G|^2 in 1/Å^2 for all combinations of wave indices: [len(h), len(k), len(l)]."""
    h, k, l = (index.astype(float) for index in indices)  # noqa: E741 - Miller's own letters
    metric = reciprocal_metric(lattice)
    # The quadratic form, with the terms of h and k alone computed once for all l.
    hh = metric[0, 0] * h[:, None] ** 2
    hk = 2 * metric[0, 1] * np.outer(h, k)
    kk = metric[1, 1] * k**2
    across = hh + hk + kk
    mixed = 2 * (metric[0, 2] * h[:, None] + metric[1, 2] * k)
    return across[:, :, None] + mixed[:, :, None] * l + metric[2, 2] * l**2


def reciprocal_metric(lattice: np.ndarray) -> np.ndarray:
    """Return the metric of the reciprocal lattice, [3, 3] in 1/Å^2, with 2 pi: |G|^2 = (h, k, l) M (h, k, l)."""
    reciprocal = 2 * np.pi * np.linalg.inv(lattice)
    return reciprocal.T @ reciprocal
