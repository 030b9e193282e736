"""Pooling forgets positions and nothing else it promises."""

import pytest
import torch

from taskgroup.models.pooling import POOLINGS, AttentionPool, DistributionPool, MeanMaxPool


@pytest.fixture
def x():
    return torch.randn(2, 5, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_positions_do_not_matter(name, x):
    torch.manual_seed(0)
    pool = POOLINGS[name](5)
    shuffled = x.flatten(2)[:, :, torch.randperm(64)].view_as(x)
    assert pool(x).shape == (2, pool.n_features)
    torch.testing.assert_close(pool(shuffled), pool(x), rtol=1e-5, atol=1e-5)


def test_mean_and_maximum(x):
    torch.testing.assert_close(
        MeanMaxPool(5)(x), torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)
    )


def test_the_distribution_holds_moments_extremes_and_shares_above_edges(x):
    pool = DistributionPool(5, edges=3)
    with torch.no_grad():
        pool.sharpness.fill_(1e4)  # a hard histogram
    found = pool(x).view(2, 5, 7)
    flat = x.flatten(2)
    torch.testing.assert_close(found[..., 0], flat.mean(2))
    torch.testing.assert_close(found[..., 1], flat.std(2, correction=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[..., 2:4], torch.stack([flat.amin(2), flat.amax(2)], dim=2))
    for i, edge in enumerate(pool.edges[0]):
        torch.testing.assert_close(
            found[..., 4 + i], (flat > edge).float().mean(2), atol=1e-3, rtol=0
        )


def test_attention_without_preference_is_the_mean(x):
    pool = AttentionPool(5, heads=2)
    torch.nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(x).view(2, 3, 5), x.mean((2, 3, 4))[:, None].expand(2, 3, 5))


def test_sharp_attention_picks_a_point(x):
    pool = AttentionPool(5, heads=1)
    with torch.no_grad():
        pool.score.weight.zero_()[0, 2] = 1e4
    flat = x.flatten(2)
    best = flat[:, 2].argmax(1)
    torch.testing.assert_close(pool(x)[:, 5:], flat[torch.arange(2), :, best])


@pytest.mark.parametrize("constant", [False, True])
def test_the_distribution_and_its_gradients_are_those_of_its_formulas(x, constant):
    pool = DistributionPool(5)
    with torch.no_grad():
        pool.edges.add_(torch.rand(5, 4))
        pool.sharpness.add_(torch.rand(5, 4))
    if constant:
        x[:, 1] = 0.5
    x = x.to(memory_format=torch.channels_last_3d).requires_grad_()
    found, expected = pool(x), pool.plainly(x)
    torch.testing.assert_close(found, expected)
    wanted = [x, pool.edges, pool.sharpness]
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    if constant:  # of equal extremes one gets the gradient, not all a share
        weights.view(2, 5, 8)[:, 1, 2:4] = 0.0
    gradients = (torch.autograd.grad(y, wanted, weights) for y in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
