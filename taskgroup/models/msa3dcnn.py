"""MSA3DCNN: multi-scale parallel kernels with channel and spatial attention in residual stages.

After the architecture family of Chen et al., arXiv:2510.13207, whose layer sizes are not public: sizes and layout here
are our own.
"""

import torch
from torch import Tensor, nn

from taskgroup.models.backbone import StagedBackbone, register
from taskgroup.models.layers import ChannelAttention, PeriodicConv3d, SpatialAttention


class MultiScaleBlock(nn.Module):
    """Three scales side by side, mixed, weighed by attention, added to the input.

    Scales: 1 x 1 x 1, 3 x 3 x 3, and 3 x 3 x 3 with dilation 2 (the reach of 5 x 5 x 5 at the cost of 3 x 3 x 3).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        part = max(2, width // 2)
        self.point = nn.Conv3d(width, part, 1, bias=False)
        self.near = PeriodicConv3d(width, part, 3, bias=False)
        self.far = PeriodicConv3d(width, part, 3, dilation=2, bias=False)
        self.norm = nn.BatchNorm3d(3 * part)
        self.mix = nn.Conv3d(3 * part, width, 1, bias=False)
        self.mix_norm = nn.BatchNorm3d(width)
        self.channels = ChannelAttention(width)
        self.space = SpatialAttention()
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, n, n, n] -> the same shape."""
        scales = torch.cat([self.point(x), self.near(x), self.far(x)], dim=1)
        mixed = self.mix_norm(self.mix(self.activation(self.norm(scales))))
        return self.activation(x + self.space(self.channels(mixed)))


@register
class MSA3DCNN(StagedBackbone):
    """Stages of multi-scale attention blocks."""

    name = "msa3dcnn"

    def block(self, width: int) -> nn.Module:
        """A multi-scale attention block."""
        return MultiScaleBlock(width)
