"""Periodic convolution and the attention of MSA3DCNN."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def periodic_pad(x: Tensor, before: int, after: int) -> Tensor:
    """Continue a periodic grid [B, C, x, y, z] by ``before`` and ``after`` points along each axis; differentiable.

    The grid may be smaller than the points added: it then repeats.
    """
    for axis in (2, 3, 4):
        n = x.shape[axis]
        repeats = [x] * (before // n + 1 + after // n)
        low, high = before % n, after % n
        x = torch.cat([x.narrow(axis, n - low, low), *repeats, x.narrow(axis, 0, high)], dim=axis)
    return x


class PeriodicConv3d(nn.Conv3d):
    """A 3D convolution on a periodic grid: exactly ``padding_mode="circular"`` with the reach of the kernel.

    Even kernels look one point further ahead than back. A stride s gives ceil(n / s) points.

    How, and why (``benchmarks/periodic_conv.py`` measures it): the grid is continued in one copy, channels last, and
    convolved without padding. The gradient of a periodic convolution is itself one, with the kernel mirrored, so the
    backward pass continues the gradient instead of computing gradients of the padding and folding them back. That is
    1.5 to 3 times as fast as ``padding_mode="circular"``. Zero padding can be faster still, because it leaves out the
    products with zeros: ((3 n - 2) / 3 n)^3 of a 3x3x3 kernel's are left, 0.58 for n = 4, 0.77 for 8, 0.88 for 16, 0.94
    for 32. Not chosen: a halo for a whole block ((n + 2 h)^3 / n^3 of the work, twice and more up to 16 points),
    im2col (27 times the memory traffic), products in Fourier space (not exact in bfloat16).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
        reach = dilation * (kernel - 1)
        self.before, self.after = reach // 2, reach - reach // 2

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, n, n, n] -> [B, outputs, ceil(n / stride), ...]."""
        plain = max(self.before, self.after) > min(x.shape[2:]) or self.stride[0] > 1
        if plain or torch.compiler.is_compiling():
            return super().forward(periodic_pad(x, self.before, self.after))
        weight = self.weight
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        y = _PeriodicConvolution.apply(x, weight, self.before, self.after, self.dilation[0], self.groups)[0]
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None, None]


class _PeriodicConvolution(torch.autograd.Function):
    """Convolution of stride 1 on a grid not smaller than ``before`` and ``after``; gradients of first order only."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, before: int, after: int, dilation: int, groups: int
    ) -> tuple[Tensor, Tensor]:
        """The convolution, and the continued input for the backward pass."""
        padded = _continued(x, before, after)
        return functional.conv3d(padded, weight, dilation=dilation, groups=groups), padded

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the backward pass needs."""
        _, weight, *ctx.settings = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The mirrored convolution of the continued gradient, and the gradient of the weights."""
        padded, weight = ctx.saved_tensors
        before, after, dilation, groups = ctx.settings
        for_input = for_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.flip(2, 3, 4).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
            around = _continued(gradient, after, before)
            for_input = functional.conv3d(around, mirrored, dilation=dilation, groups=groups)
        if ctx.needs_input_grad[1]:
            sizes = [1, 1, 1], [0, 0, 0], [dilation] * 3, False, [0, 0, 0], groups, [False, True, False]
            for_weight = torch.ops.aten.convolution_backward(gradient, padded, weight, None, *sizes)[1]
        return for_input, for_weight, None, None, None, None


def _continued(x: Tensor, before: int, after: int) -> Tensor:
    """``periodic_pad`` in one copy, channels last, for grids not smaller than what is added."""
    batch, channels, *sizes = x.shape
    added = before + after
    room = x.new_empty((batch, *(n + added for n in sizes), channels)).permute(0, 4, 1, 2, 3)
    inside = room
    for axis, n in zip((2, 3, 4), sizes, strict=True):
        inside = inside.narrow(axis, before, n)
    inside.copy_(x)
    for axis in (4, 3, 2):  # each axis copies planes that the axes before it have completed
        part = room
        for other in range(2, axis):
            part = part.narrow(other, before, sizes[other - 2])
        n = sizes[axis - 2]
        part.narrow(axis, 0, before).copy_(part.narrow(axis, n, before))
        part.narrow(axis, before + n, after).copy_(part.narrow(axis, before, after))
    return room


class ChannelAttention(nn.Module):
    """Weighs channels by their mean and maximum over the grid (CBAM, Woo et al., doi:10.1007/978-3-030-01234-2_1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 4)
        self.weigh = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> the same shape."""
        weights = self.weigh(x.mean((2, 3, 4))) + self.weigh(x.amax((2, 3, 4)))
        return x * weights.sigmoid()[:, :, None, None, None]


class SpatialAttention(nn.Module):
    """Weighs grid points by a convolution over the channels' mean and maximum there (CBAM)."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.weigh = convolution

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> the same shape."""
        summary = torch.stack([x.mean(1), x.amax(1)], dim=1)
        return x * self.weigh(summary).sigmoid()
