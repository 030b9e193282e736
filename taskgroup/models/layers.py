"""Periodic convolution and the attention of MSA3DCNN."""

import torch
from torch import Tensor, nn


def periodic_pad(x: Tensor, before: int, after: int) -> Tensor:
    """Continue a periodic grid [B, C, x, y, z] by ``before`` and ``after`` points along each axis."""
    for axis in (2, 3, 4):
        n = x.shape[axis]
        index = torch.arange(-before, n + after, device=x.device) % n
        x = x.index_select(axis, index)
    return x


class PeriodicConv3d(nn.Conv3d):
    """A 3D convolution on a periodic grid: ``padding_mode="circular"`` with the reach of the kernel on both sides."""

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
        return super().forward(periodic_pad(x, self.before, self.after))


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
