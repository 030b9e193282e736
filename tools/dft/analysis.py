"""What is read off a calculation, in plain numpy: grids, density, bands. No GPAW here, so all of it is tested."""

import math
from collections.abc import Sequence

import numpy as np


def even_grid(lengths: Sequence[float], spacing: float) -> tuple[int, ...]:
    """Even numbers of points, without prime factors above 7, at most ``spacing`` Å apart; ``lengths`` of the cell in Å.

    One grid is taken for all volumes of an equation of state, so that E(V) has no jumps.
    """
    return tuple(_smooth_even(math.ceil(length / spacing)) for length in lengths)


def _smooth_even(n: int) -> int:
    n += n % 2
    while not _is_smooth(n):
        n += 2
    return n


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


def downsampled(density: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The density on a coarser grid, by cutting its Fourier series; keeps the mean, so the charge."""
    waves = np.fft.fftn(density, norm="forward")
    index = [np.fft.fftfreq(n, 1 / n).astype(int) for n in shape]
    return np.fft.ifftn(waves[np.ix_(*index)], norm="forward").real


def band_edges(energies: np.ndarray, fermi: float) -> tuple[list[float], list[float]]:
    """Lowest and highest occupied energy (eV) of each band that is occupied somewhere; ``energies`` is [k, bands]."""
    occupied = energies < fermi + 1e-6
    some = occupied.any(0)
    return energies.min(0)[some].tolist(), np.where(occupied, energies, -np.inf).max(0)[
        some
    ].tolist()


def bandwidth(lowest: Sequence[float], highest: Sequence[float], tolerance: float = 0.5) -> float:
    """Width (eV) of the topmost connected manifold of occupied bands, from their edges.

    Gaps of up to ``tolerance`` eV do not split it: a k-grid is coarse.
    """
    top = bottom = max(highest)
    for low, high in sorted(zip(lowest, highest, strict=True), key=lambda band: -band[1]):
        if high < bottom - tolerance:
            break
        bottom = min(bottom, low)
    return float(top - bottom)


def density_of_states(
    energies: np.ndarray, weights: np.ndarray, at: float, width: float = 0.1
) -> float:
    """States per eV, both spins, at one energy: Gaussians of ``width`` eV on spin-paired ``energies`` [k, bands]."""
    gaussians = np.exp(-(((energies - at) / width) ** 2)) / (width * np.pi**0.5)
    return float(2 * (weights[:, None] * gaussians).sum())
