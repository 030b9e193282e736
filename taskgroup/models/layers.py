"""Periodic convolution and the attention of MSA3DCNN."""

from typing import Any

import torch
from torch import Tensor, nn


def periodic_pad(x: Tensor, pad: int) -> Tensor:
    """Continue a periodic grid [B, C, x, y, z] by ``pad`` points on each side of each axis.

    Concatenated slices, an axis a copy: exactly what ``functional.pad`` gives in its circular mode, and faster.
    """
    for axis in (2, 3, 4):
        n = x.shape[axis]
        if pad <= n:
            x = torch.cat([x.narrow(axis, n - pad, pad), x, x.narrow(axis, 0, pad)], dim=axis)
        else:  # a grid smaller than the kernel sees itself several times
            x = x.index_select(axis, torch.arange(-pad, n + pad, device=x.device) % n)
    return x


class PeriodicConv3d(nn.Conv3d):
    """A 3D convolution on a periodic grid: what ``padding_mode="circular"`` computes, faster.

    Odd kernels are padded so that stride 1 keeps the size; even kernels (with stride = kernel) need no padding.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel, **options)
        self.halo = self.dilation[0] * (kernel // 2) if kernel % 2 else 0

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, n, n, n] -> [B, outputs, n / stride, n / stride, n / stride]."""
        return super().forward(periodic_pad(x, self.halo) if self.halo else x)


class ChannelAttention(nn.Module):
    """Weighs channels by their mean and maximum over the grid (Woo et al., CBAM, arXiv:1807.06521)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.weigh = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> the same shape."""
        weights = self.weigh(x.mean((2, 3, 4))) + self.weigh(x.amax((2, 3, 4)))
        return x * weights.sigmoid()[:, :, None, None, None]


class SpatialAttention(nn.Module):
    """Weighs grid points by a periodic convolution over channel mean and maximum (CBAM)."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.weigh = PeriodicConv3d(2, 1, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> the same shape."""
        summary = torch.stack([x.mean(1), x.amax(1)], dim=1)
        return x * self.weigh(summary).sigmoid()
