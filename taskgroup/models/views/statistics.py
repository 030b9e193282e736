"""The distribution of a density's fields over the cell: all that is left when positions are forgotten.

Exactly invariant (the order of grid points does not matter), so it is computed once per dataset. Forests and small
networks on it are a strong baseline: quantiles of the density and its derivatives know which elements are there.
"""

import numpy as np
import torch
from torch import Tensor

# Levels of the quantiles, denser towards the top, where the cores are.
LEVELS = (
    0.0, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,
    0.8, 0.85, 0.9, 0.94, 0.97, 0.985, 0.995, 1.0,
)  # fmt: skip
# Mean, deviation, skewness, kurtosis.
_MOMENTS = 4
# A constant field has no variance to divide by.
_SMALLEST = 1e-12
# e/Å^3; the logarithm of a mean density stays finite.
_LEAST_DENSITY = 1e-6


def n_statistics(channels: int, density_channels: int) -> int:
    """Return the length of ``distribution``."""
    return channels * (len(LEVELS) + _MOMENTS) + density_channels


def distribution(fields: Tensor, density: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return [B, D] of scaled fields [B, C', N, N, N] and their density [B, C, N, N, N] in e/Å^3.

    For each field 28 quantiles, mean, standard deviation, skewness and excess kurtosis (the last two as
    sign(x) log(1 + abs(x))); then the logarithm of the mean of each density channel: with the logarithm of the volume,
    that of the number of electrons.

    ``counted`` [B, n1, n2, n3] says which points count; by default all of them.
    """
    flat = fields.flatten(2)
    flat_density = density.flatten(2)
    if counted is None:
        quantiles = _quantiles(flat)
        weight = flat.new_ones(1, 1, flat.shape[-1])
    else:
        quantiles = _quantiles_of_counted(flat, counted.flatten(1))
        weight = counted.flatten(1)[:, None].to(flat)
    of_fields = torch.cat([quantiles, _moments(flat, weight)], dim=-1).flatten(1)
    mean_density = _mean(flat_density, weight)[..., 0]
    electrons = torch.log(mean_density.abs().clamp_min(_LEAST_DENSITY))
    return torch.cat([of_fields, electrons], dim=1)


def _quantiles(values: Tensor) -> Tensor:
    """Return quantiles [B, C, levels] of values [B, C, P]; they are values of points, not interpolated."""
    last = values.shape[-1] - 1
    positions = [round(level * last) for level in LEVELS]
    return _sort(values)[..., torch.tensor(positions, device=values.device)]


def _quantiles_of_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Return quantiles [B, C, levels] of those values [B, C, P] that are counted [B, P]."""
    # Points that do not count are sorted behind all others.
    behind = values.masked_fill(~counted[:, None], torch.inf)
    last = counted.sum(1, keepdim=True) - 1
    levels = torch.tensor(LEVELS, device=values.device)
    positions = (levels * last).round().long()[:, None].expand(-1, values.shape[1], -1)
    return _sort(behind).gather(2, positions)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return weighted means [B, C, 1] of values [B, C, P]."""
    return (values * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)


def _moments(values: Tensor, weight: Tensor) -> Tensor:
    """Return mean, deviation, skewness and excess kurtosis [B, C, 4] of values [B, C, P], weighted."""
    mean = _mean(values, weight)
    centred = values - mean
    square = centred * centred
    variance = _mean(square, weight)
    deviation = variance.sqrt()
    third = _mean(square * centred, weight)
    fourth = _mean(square * square, weight)
    skewness = third / (deviation * variance).clamp_min(_SMALLEST)
    kurtosis = fourth / variance.square().clamp_min(_SMALLEST) - 3
    tails = torch.cat([skewness, kurtosis], dim=-1)
    tails = tails.sign() * torch.log1p(tails.abs())
    return torch.cat([mean, deviation, tails], dim=-1)


def _sort(values: Tensor) -> Tensor:
    """Return values sorted along the last axis. On a CPU numpy's vectorised sort takes a twentieth of torch's time."""
    if values.is_cpu and not torch.compiler.is_compiling():
        return torch.from_numpy(np.sort(values.numpy(), axis=-1))
    return values.sort(dim=-1).values
