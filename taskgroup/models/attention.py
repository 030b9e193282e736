"""The attention of MSA3DCNN (CBAM, Woo et al., doi:10.1007/978-3-030-01234-2_1).

Both kinds compute in float32 whatever the convolutions do, on channels that lie one after the other: sums, extremes and
products with one number per channel or per point then run along memory, several times as fast on a CPU as channels
last.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from taskgroup.models.layers import (
    KernelConv3d,
    convolution_dtype,
    laid_out,
    periodic_convolution,
)

# Just below zero: what separates a maximum (difference 0) from all other values.
_BELOW_ZERO = -1e-38


class ChannelAttention(nn.Module):
    """Weighs channels by their mean and maximum over the grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 4)
        self.weigh = nn.Sequential(
            nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a float32 tensor of the shape of the input [B, C, n, n, n]."""
        with torch.autocast(x.device.type, enabled=False):
            x = laid_out(x, torch.float32, torch.contiguous_format)
            points = x.flatten(2)
            # max() remembers where it was; the gradient of amax() compares all points with it again
            maximum = points.max(2).values
            scores = self.weigh(torch.stack([points.mean(2), maximum])).sum(0)
            return x * scores.sigmoid()[:, :, None, None, None]


class SpatialAttention(nn.Module):
    """Weighs grid points by a 3x3x3 convolution over the channels' mean and maximum there.

    Two channels in and one out keep a processor's vector units idle. So the points of a line along z are taken for
    channels: a convolution in the plane from 2 n to n of them, whose kernel has the few weights on its diagonals.
    """

    def __init__(self, convolution: KernelConv3d) -> None:
        super().__init__()
        self.weigh = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Return a float32 tensor of the shape of the input [B, C, n, n, n]."""
        # cuDNN's float32 gradient of this convolution would be a tenth of a training step
        precision = convolution_dtype(x) if x.is_cuda else torch.float32
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.float32, memory_format=torch.contiguous_format)
            maximum = x.amax(1) if torch.compiler.is_compiling() else _Maximum.apply(x)
            lines = torch.cat([x.mean(1), maximum], dim=3).permute(0, 3, 1, 2)
            scores = self._scores(lines.to(precision)).float()
            return x * scores.permute(0, 2, 3, 1)[:, None].sigmoid()

    def _scores(self, lines: Tensor) -> Tensor:
        """Return scores [B, n, n, n] (along z; x; y) of lines [B, 2 n, n, n] (means then maxima along z; x; y)."""
        layer = self.weigh
        kernel = self._plane_kernel(lines)
        if not layer.is_periodic:
            return functional.conv2d(lines, kernel, padding=1) + layer.bias
        if torch.compiler.is_compiling():
            wrapped = functional.pad(lines, (1, 1, 1, 1), mode="circular")
            return functional.conv2d(wrapped, kernel) + layer.bias
        return periodic_convolution(lines, kernel, 1, 1) + layer.bias

    def _plane_kernel(self, lines: Tensor) -> Tensor:
        """Return the kernel [n, 2 n, 3, 3] in the plane that does what the 3x3x3 kernel does."""
        find = _diagonals if torch.compiler.is_compiling() else _diagonals_once
        taps = find(lines.shape[-1], self.weigh.is_periodic, lines.device)
        kernel = torch.einsum("cxyk,koi->ocixy", self.weigh.kernel()[0], taps)
        return kernel.flatten(1, 2).to(lines.dtype)


def _diagonals(n: int, periodic: bool, device: torch.device) -> Tensor:
    """Return [3, n, n]: 1 where the point ``i`` of a line is what the tap ``k`` of output ``o`` sees."""
    steps = torch.arange(n, device=device)
    taps = torch.arange(-1, 2, device=device)
    apart = taps[:, None, None] + steps[:, None] - steps
    meets = apart % n == 0 if periodic else apart == 0
    return meets.float()


# Kept for the process, since recorded CUDA graphs refer to where they lie in memory.
@cache
def _diagonals_once(n: int, periodic: bool, device: torch.device) -> Tensor:
    # a table made while predicting must serve training too
    with torch.inference_mode(False):
        return _diagonals(n, periodic, device)


class _Maximum(torch.autograd.Function):
    """Maxima over dimension 1; equal ones all get the gradient. Cheaper than to look each point's channel up."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Return the maxima."""
        return x.amax(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Save values and maxima."""
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient where a value is the maximum."""
        x, maximum = ctx.saved_tensors
        # 0 at the maximum, else negative
        difference = x - maximum[:, None]
        spread = gradient[:, None].expand_as(x)
        return torch.ops.aten.threshold_backward(spread, difference, _BELOW_ZERO)
