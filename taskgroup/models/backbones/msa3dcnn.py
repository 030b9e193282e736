"""MSA3DCNN: multi-scale parallel kernels with channel and spatial attention.

The idea is that of Chen et al., arXiv:2510.13207; layer sizes are not public there, these are our own.
"""

import torch
from torch import Tensor, nn

from taskgroup.models.attention import ChannelAttention, SpatialAttention
from taskgroup.models.backbones.base import StagedBackbone, convolution
from taskgroup.models.config import ModelConfig
from taskgroup.models.layers import GridNorm, for_convolution, laid_out


class MultiScaleBlock(nn.Module):
    """Parallel 3x3x3 kernels of several dilations, mixed, weighed by attention, added to the input.

    A kernel of dilation 2 reaches as far as a 5x5x5 one at a fifth of its cost. The kernels share the channels, so that
    a block costs about what one 3x3x3 convolution does.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        scales = len(config.dilations)
        sizes = [width // scales + (i < width % scales) for i in range(scales)]
        self.branches = nn.ModuleList(
            convolution(config, width, size, dilation)
            for size, dilation in zip(sizes, config.dilations, strict=True)
            if size
        )
        self.norm = GridNorm(width)
        self.mix = nn.Conv3d(width, width, 1, bias=False)
        self.mix_norm = GridNorm(width)
        self.channels = ChannelAttention(width)
        self.places = SpatialAttention(convolution(config, 2, 1, bias=True))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, n, n, n] -> the same shape."""
        shared = for_convolution(x)
        scales = self.act(self.norm(torch.cat([branch(shared) for branch in self.branches], dim=1)))
        mixed = self.mix_norm(self.mix(scales))
        weighed = self.places(self.channels(mixed))
        return self.act(laid_out(x, weighed.dtype, torch.contiguous_format) + weighed)


class MSA3DCNN(StagedBackbone):
    """Stages of multi-scale blocks with attention."""

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """A multi-scale block."""
        return MultiScaleBlock(config, width)
