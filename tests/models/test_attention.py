"""Attention against its formulas."""

import pytest
import torch

from taskgroup.models.attention import ChannelAttention, SpatialAttention
from taskgroup.models.layers import KernelConv3d, PeriodicConv3d


@pytest.fixture
def x():
    return torch.randn(2, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def plainly_by_channel(layer, x):
    scores = layer.weigh(x.mean((2, 3, 4))) + layer.weigh(x.amax((2, 3, 4)))
    return x * scores.sigmoid()[:, :, None, None, None]


def plainly_by_place(layer, x):
    return x * layer.weigh(torch.stack([x.mean(1), x.amax(1)], dim=1)).sigmoid()


CASES = {
    "channels": (plainly_by_channel, lambda: ChannelAttention(8)),
    "periodic": (plainly_by_place, lambda: SpatialAttention(PeriodicConv3d(2, 1, 3))),
    "symmetric": (
        plainly_by_place,
        lambda: SpatialAttention(PeriodicConv3d(2, 1, 3, symmetric=True)),
    ),
    "zeros": (plainly_by_place, lambda: SpatialAttention(KernelConv3d(2, 1, 3, padding=1))),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_formulas(case, layout, x):
    plainly, make = CASES[case]
    layer = make()
    x = x.to(memory_format=layout).requires_grad_()
    found, expected = layer(x), plainly(layer, x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    wanted = [x, *layer.parameters()]
    gradients = (torch.autograd.grad(y, wanted, weights) for y in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_it_computes_in_float32_inside_autocast(case, x):
    plainly, make = CASES[case]
    layer = make()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    torch.testing.assert_close(found, plainly(layer, x))


def test_a_grid_of_two_points_sees_itself_twice():
    layer, x = SpatialAttention(PeriodicConv3d(2, 1, 3)), torch.randn(1, 3, 2, 2, 2)
    torch.testing.assert_close(layer(x), plainly_by_place(layer, x))


def test_it_trains_after_a_prediction_in_inference_mode(x):
    layer = SpatialAttention(PeriodicConv3d(2, 1, 3))
    grid = torch.randn(1, 8, 6, 6, 6)
    with torch.inference_mode():
        layer(grid)
    layer(grid).sum().backward()
    assert torch.isfinite(layer.weigh.weight.grad).all()
