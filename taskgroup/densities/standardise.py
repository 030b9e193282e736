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

from taskgroup.densities.density import Density
from taskgroup.errors import ConfigError


def standardise(density: Density, n: int = 32, sigma: float = 0.20) -> Density:
    """The density on n x n x n points, low-passed with an isotropic Gaussian of width ``sigma`` in Å.

    Charge is conserved, in both channels. The result keeps lattice, atoms, kind and source; it commutes with shifts of
    the origin, with exchanging axes and with rotating the crystal. ``sigma = 0`` only resamples.
    Raises ConfigError where ``n < 2`` or ``sigma < 0``.
    """
    check_grid(n, sigma)
    waves = fft.rfftn(density.values, axes=(1, 2, 3), norm="forward")
    kept = [held_indices(min(n, points)) for points in density.grid]
    kept[2] = kept[2][kept[2] >= 0]
    damping = np.exp(-0.5 * sigma**2 * squared_waves(kept, density.lattice))
    here = [index % points for index, points in zip(kept, density.grid, strict=True)]
    there = [index % n for index in kept]
    sampled = np.zeros((density.n_channels, n, n, n // 2 + 1), dtype=complex)
    for channel in range(density.n_channels):
        sampled[channel][np.ix_(*there)] = waves[channel][np.ix_(*here)] * damping
    return replace(density, values=fft.irfftn(sampled, s=(n, n, n), axes=(1, 2, 3), norm="forward"))


def check_grid(n: int, sigma: float) -> None:
    """Refuse a grid that holds no wave and a width that is not one."""
    if n < 2:
        raise ConfigError(f"n must be at least 2 points an axis, found {n}")
    if not 0 <= sigma < np.inf:
        raise ConfigError(f"sigma must be a width in Å, 0 or more, found {sigma}")


def held_indices(points: int) -> np.ndarray:
    """The wave indices that a grid of so many points holds in pairs: those below half of it, int64, FFT order."""
    index = np.fft.ifftshift(np.arange(-(points // 2), points - points // 2))
    return index[2 * np.abs(index) < points]


def squared_waves(indices: list[np.ndarray], lattice: np.ndarray) -> np.ndarray:
    """|G|^2 in 1/Å^2 for all combinations of wave indices: [len(indices[0]), len(indices[1]), len(indices[2])]."""
    h, k, l = (index.astype(float) for index in indices)  # noqa: E741 - Miller's own letters
    metric = reciprocal_metric(lattice)
    across = (
        metric[0, 0] * h[:, None] ** 2 + 2 * metric[0, 1] * np.outer(h, k) + metric[1, 1] * k**2
    )
    mixed = 2 * (metric[0, 2] * h[:, None] + metric[1, 2] * k)
    return across[:, :, None] + mixed[:, :, None] * l + metric[2, 2] * l**2


def reciprocal_metric(lattice: np.ndarray) -> np.ndarray:
    """The metric of the reciprocal lattice, [3, 3] in 1/Å^2, with the factor 2 pi: |G|^2 = (h, k, l) M (h, k, l)."""
    reciprocal = 2 * np.pi * np.linalg.inv(lattice)
    return reciprocal.T @ reciprocal
