"""Periodic fields between their grid points: value and derivatives of the Fourier series, exact.

Written with real numbers and matrix products, so that a traced program can hold it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from taskgroup.models import fourier
from taskgroup.models.peaks.maxima import Parabola

# Products [places, n2, n3] in memory at a time.
_MOST_VALUES = 1 << 24
_AXES = (0, 1, 2)


class _Waves(NamedTuple):
    """Derivatives of the waves of one axis at places, by order 0, 1, 2: ``cosine`` and ``sine`` [B, K, n] each."""

    cosine: list[Tensor]
    sine: list[Tensor]


def series_at(field: Tensor, at: Tensor) -> Parabola:
    """Return value [B, K], gradient and second derivatives of fields [B, n1, n2, n3] at places [B, K, 3] (fractional).

    Derivatives are those in fractional coordinates.
    """
    real, imaginary = fourier.waves(field[:, None])
    # A traced program may not depend on how many crystals there are.
    chunk = at.shape[1]
    if not torch.compiler.is_compiling():
        values_per_place = len(field) * math.prod(field.shape[2:])
        chunk = max(1, _MOST_VALUES // values_per_place)
    parts = [_evaluate(real[:, 0], imaginary[:, 0], part) for part in at.split(chunk, dim=1)]
    return Parabola(*(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True)))


def _evaluate(real: Tensor, imaginary: Tensor, at: Tensor) -> Parabola:
    """Return value and derivatives at places [B, K, 3] of series with coefficients [B, n1, n2, n3]."""
    indices = [
        fourier.wave_indices(real.shape[1], at),
        fourier.wave_indices(real.shape[2], at),
        torch.arange(real.shape[3], device=at.device),
    ]
    waves = [_waves(at[..., axis], index) for axis, index in enumerate(indices)]
    # Along the last axis every index but 0 stands for its negative too.
    twice = torch.where(indices[2] > 0, 2.0, 1.0).to(real)
    real, imaginary = real * twice, imaginary * twice
    n2, n3 = real.shape[2:]
    derivatives: dict[tuple[int, int, int], Tensor] = {}
    for first in range(3):
        rows = _product(waves[0], first, real.flatten(2), imaginary.flatten(2))
        planes = [part.unflatten(2, (n2, n3)) for part in rows]
        for second in range(3 - first):
            lines = _weighted(waves[1], second, planes)
            for third in range(3 - first - second):
                derivatives[first, second, third] = _total(waves[2], third, lines)
    return Parabola(derivatives[0, 0, 0], _gradient(derivatives), _hessian(derivatives))


def _waves(at: Tensor, index: Tensor) -> _Waves:
    """Return the waves of whole frequencies [n] at places [B, K] along an axis, with their derivatives."""
    factor = 2 * math.pi * index.to(at)
    angle = at[..., None] * factor
    cosine, sine = angle.cos(), angle.sin()
    return _Waves(
        [cosine, -factor * sine, -factor.square() * cosine],
        [sine, factor * cosine, -factor.square() * sine],
    )


def _product(waves: _Waves, order: int, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Return complex sums [B, K, n2 n3] over the first axis of coefficients [B, n1, n2 n3]."""
    cosine, sine = waves.cosine[order], waves.sine[order]
    return cosine @ real - sine @ imaginary, sine @ real + cosine @ imaginary


def _weighted(waves: _Waves, order: int, planes: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return complex sums [B, K, n3] over the second axis of planes [B, K, n2, n3]."""
    cosine, sine = waves.cosine[order][..., None, :], waves.sine[order][..., None, :]
    real, imaginary = planes
    return (cosine @ real - sine @ imaginary)[..., 0, :], (sine @ real + cosine @ imaginary)[
        ..., 0, :
    ]


def _total(waves: _Waves, order: int, lines: tuple[Tensor, Tensor]) -> Tensor:
    """Return the real sums [B, K] over the third axis of lines [B, K, n3]."""
    real, imaginary = lines
    return (waves.cosine[order] * real - waves.sine[order] * imaginary).sum(-1)


def _gradient(derivatives: dict[tuple[int, int, int], Tensor]) -> Tensor:
    """Return first derivatives [B, K, 3]."""
    return torch.stack([derivatives[1, 0, 0], derivatives[0, 1, 0], derivatives[0, 0, 1]], dim=-1)


def _hessian(derivatives: dict[tuple[int, int, int], Tensor]) -> Tensor:
    """Return second derivatives [B, K, 3, 3]."""
    rows = []
    for first in _AXES:
        row = []
        for second in _AXES:
            orders = [0, 0, 0]
            orders[first] += 1
            orders[second] += 1
            row.append(derivatives[orders[0], orders[1], orders[2]])
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)
