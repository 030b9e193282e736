"""Periodic convolution against PyTorch's circular padding and a plain second implementation; attention."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from taskgroup.models.attention import ChannelAttention, SpatialAttention
from taskgroup.models.layers import PeriodicConv3d, continued, laid_out


def plainly(x, layer):
    """The convolution of a grid continued by indexing."""
    for axis in (2, 3, 4):
        index = torch.arange(-layer.before, x.shape[axis] + layer.after) % x.shape[axis]
        x = x.index_select(axis, index)
    return functional.conv3d(
        x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
    )


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_values_and_gradients_are_those_of_a_grid_continued_by_indexing(kernel, stride, dilation):
    for groups, n in product((1, 2), (2, 3, 4, 6)):
        layer = PeriodicConv3d(4, 6, kernel, stride, dilation, groups).double()
        x = random(2, 4, n, n + 1, n).requires_grad_()
        found, expected = layer(x), plainly(x, layer)
        assert found.shape[2:] == (-(-n // stride), -(-(n + 1) // stride), -(-n // stride))
        torch.testing.assert_close(found, expected)
        weights = random(*expected.shape, seed=1)
        wanted = [x, layer.weight, layer.bias]
        gradients = (list(torch.autograd.grad(y, wanted, weights)) for y in (found, expected))
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_circular_padding(stride, layout, dtype):
    ours = PeriodicConv3d(8, 8, 3, stride).to(dtype).to(memory_format=layout)
    circular = nn.Conv3d(8, 8, 3, stride, padding=1, padding_mode="circular").to(dtype)
    circular.load_state_dict(ours.state_dict())
    x = random(2, 8, 6, 6, 6, dtype=torch.float32).to(dtype).to(memory_format=layout)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    (found, expected) = ours(a), circular(b)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    weights = random(*found.shape, seed=1).to(dtype)
    found.backward(weights)
    expected.backward(weights)
    tolerance *= 10  # gradients of weights are sums over the batch and the grid
    torch.testing.assert_close(a.grad, b.grad, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        ours.weight.grad, circular.weight.grad, rtol=tolerance, atol=10 * tolerance
    )


def test_it_moves_with_the_origin():
    layer, x = PeriodicConv3d(3, 5, 3).double(), random(1, 3, 5, 5, 5)
    moved = layer(x.roll((1, 2, -1), (2, 3, 4)))
    torch.testing.assert_close(moved, layer(x).roll((1, 2, -1), (2, 3, 4)))


def test_a_grid_smaller_than_the_kernel_sees_itself_several_times():
    layer, x = PeriodicConv3d(2, 3, 5, dilation=2).double(), random(1, 2, 2, 2, 2)
    expected = layer(x.repeat(1, 1, 4, 4, 4))[:, :, :2, :2, :2]
    torch.testing.assert_close(layer(x), expected)


def test_padding_is_that_of_pytorch():
    x = random(2, 3, 4, 4, 4)
    torch.testing.assert_close(continued(x, 2, 2), functional.pad(x, (2,) * 6, mode="circular"))


def test_autocast_computes_in_bfloat16_and_gives_float32_gradients():
    layer, x = PeriodicConv3d(4, 4, 3), random(2, 4, 4, 4, 4).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


def test_many_networks_can_be_stacked():
    layers, x = [PeriodicConv3d(2, 3, 3) for _ in range(3)], random(2, 2, 4, 4, 4).float()

    def loss(parameters):
        return functional_call(layers[0], parameters, (x,)).square().sum()

    stacked = vmap(grad(loss))(stack_module_state(layers)[0])
    for i, layer in enumerate(layers):
        layer(x).square().sum().backward()
        torch.testing.assert_close(stacked["weight"][i], layer.weight.grad, rtol=1e-4, atol=1e-4)


def test_several_gradients_at_once_are_those_one_by_one():
    layer, x = PeriodicConv3d(2, 3, 3).double(), random(2, 2, 4, 4, 4).requires_grad_()
    y = layer(x)
    weights = random(5, *y.shape)
    at_once = torch.autograd.grad(
        y, [x, layer.weight], weights, is_grads_batched=True, retain_graph=True
    )
    for i in range(5):
        one = torch.autograd.grad(y, [x, layer.weight], weights[i], retain_graph=True)
        torch.testing.assert_close([part[i] for part in at_once], list(one))


def test_a_second_derivative_is_refused_rather_than_wrong():
    layer, x = PeriodicConv3d(2, 3, 3), random(1, 2, 4, 4, 4).float().requires_grad_()
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_symmetric_kernel_has_four_weights_and_the_variance_of_a_plain_one():
    torch.manual_seed(0)
    layer, plain = PeriodicConv3d(64, 64, 3, symmetric=True), PeriodicConv3d(64, 64, 3)
    kernel = layer.kernel()
    distance = (torch.arange(3) - 1).abs()
    orbit = (distance[:, None, None] + distance[:, None] + distance).flatten()
    for k in range(4):
        weights = kernel.flatten(2)[..., orbit == k]
        torch.testing.assert_close(weights, weights[..., :1].expand_as(weights))
    assert kernel.square().mean().item() == pytest.approx(
        plain.weight.square().mean().item(), rel=0.1
    )
    assert layer.state_dict().keys() == plain.state_dict().keys()


def test_channel_attention_weighs_whole_channels():
    x = random(2, 8, 3, 3, 3).float()
    ratio = ChannelAttention(8)(x) / x
    torch.testing.assert_close(
        ratio, ratio[:, :, :1, :1, :1].expand_as(ratio), rtol=1e-4, atol=1e-5
    )
    assert (ratio > 0).all()
    assert (ratio < 1).all()


def test_spatial_attention_weighs_whole_points():
    x = random(2, 8, 3, 3, 3).float()
    ratio = SpatialAttention(PeriodicConv3d(2, 1, 3))(x) / x
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)
    assert ratio.flatten(1).std(1).min() > 0


@pytest.mark.parametrize("of", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("to", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_lies_as_its_input_does_whatever_it_went_through(of, to, dtype):
    x = torch.randn(2, 3, 4, 4, 4).to(memory_format=of).requires_grad_()
    y = laid_out(x, dtype, to)
    assert y.is_contiguous(memory_format=to)
    upstream = torch.randn(2, 3, 4, 4, 4).to(dtype)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    assert gradient.dtype == torch.float32
    assert gradient.is_contiguous(memory_format=of) or y is x
    torch.testing.assert_close(gradient, upstream.float())
    torch.testing.assert_close(y.float(), x.detach().to(dtype).float())


def test_many_gradients_go_back_at_once():
    x = torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d).requires_grad_()
    upstream = torch.randn(5, 2, 3, 4, 4, 4)
    (found,) = torch.autograd.grad(
        laid_out(x, torch.float32, torch.contiguous_format), x, upstream, is_grads_batched=True
    )
    torch.testing.assert_close(found, upstream)
