"""Quantiles and moments of fields."""

import numpy as np
import torch

from taskgroup.models.views.statistics import LEVELS, distribution, n_statistics

from .conftest import make_densities


def test_quantiles_and_moments_are_those_of_numpy():
    density = make_densities(2, n=8)
    fields = torch.cat([density, density.square()], dim=1)
    found = distribution(fields, density)
    assert found.shape == (2, n_statistics(2, 1))
    per_field = found[:, :-1].unflatten(1, (2, -1)).numpy()
    flat = fields.flatten(2).double().numpy()
    k = len(LEVELS)
    quantiles = np.quantile(flat, LEVELS, axis=-1, method="nearest").transpose(1, 2, 0)
    np.testing.assert_allclose(
        per_field[..., :k], quantiles, rtol=2e-3
    )  # a tie may fall to either neighbour
    np.testing.assert_allclose(per_field[..., k], flat.mean(-1), rtol=1e-5)
    np.testing.assert_allclose(per_field[..., k + 1], flat.std(-1), rtol=1e-4)
    unit = (flat - flat.mean(-1, keepdims=True)) / flat.std(-1, keepdims=True)
    for column, moment in ((k + 2, (unit**3).mean(-1)), (k + 3, (unit**4).mean(-1) - 3)):
        np.testing.assert_allclose(
            per_field[..., column], np.sign(moment) * np.log1p(abs(moment)), atol=1e-3
        )
    np.testing.assert_allclose(found[:, -1], np.log(density.mean((1, 2, 3, 4))), rtol=1e-5)


def test_the_order_of_the_points_does_not_matter():
    density = make_densities(2, n=8)
    order = torch.randperm(8**3, generator=torch.Generator().manual_seed(0))
    shuffled = density.flatten(2)[:, :, order].view_as(density)
    torch.testing.assert_close(
        distribution(shuffled, shuffled), distribution(density, density), rtol=1e-4, atol=1e-4
    )


def test_a_constant_field_has_no_tails():
    constant = torch.full((1, 1, 4, 4, 4), 3.0)
    found = distribution(constant, constant)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0, : len(LEVELS) + 1], torch.full((len(LEVELS) + 1,), 3.0))


def test_the_distribution_of_counted_points_is_that_of_these_points_alone():
    density = make_densities(2, n=8)
    counted = torch.zeros(2, 8, 8, 8, dtype=torch.bool)
    counted[:, :4] = True
    found = distribution(density, density, counted)
    torch.testing.assert_close(found, distribution(density[:, :, :4], density[:, :, :4]))
    all_points = distribution(density, density, torch.ones_like(counted))
    torch.testing.assert_close(all_points, distribution(density, density))
