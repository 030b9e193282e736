"""Fourier series between grid points against closed forms."""

import math

import pytest
import torch

from taskgroup.models.peaks.series import series_at

WAVES = ((1, 0, 2), (3, -2, 1), (0, 1, -1))
PHASES = (0.3, 1.0, 2.0)
GRID = (9, 10, 12)


def plane_waves(at):
    """Return value, gradient and second derivatives of a sum of plane waves at fractional places [..., 3]."""
    value, slope, bend = 0.0, 0.0, 0.0
    for h, phase in zip(WAVES, PHASES, strict=True):
        k = 2 * math.pi * torch.tensor(h, dtype=torch.float64)
        angle = at @ k + phase
        value = value + angle.cos()
        slope = slope - angle.sin()[..., None] * k
        bend = bend - angle.cos()[..., None, None] * k[:, None] * k
    return value, slope, bend


@pytest.fixture
def field():
    lines = [torch.arange(n, dtype=torch.float64) / n for n in GRID]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    return plane_waves(points)[0]


def test_value_and_derivatives_of_plane_waves_are_exact(field):
    at = torch.rand(1, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = series_at(field[None], at)
    for part, expected in zip(found, plane_waves(at), strict=True):
        torch.testing.assert_close(part, expected)


def test_places_that_do_not_fit_into_memory_at_once_give_the_same(field, monkeypatch):
    at = torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fields = torch.stack([field, 2 * field])
    whole = series_at(fields, at)
    monkeypatch.setattr("taskgroup.models.peaks.series._MOST_VALUES", 3 * fields.numel())
    for part, expected in zip(series_at(fields, at), whole, strict=True):
        torch.testing.assert_close(part, expected)
