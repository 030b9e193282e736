"""ConvNeXt in three dimensions (Liu et al., doi:10.1109/CVPR52688.2022.01167)."""

import torch
from torch import Tensor, nn

from taskgroup.models.backbones.base import StagedBackbone, convolution
from taskgroup.models.config import ModelConfig

_KERNEL = 5  # 7 in two dimensions; a grid of 8 points repeats within 7
_EXPANSION = 4
_SCALE = 0.1  # of a block's part at the start; 1e-6 in the paper is for far deeper networks


class ConvNeXtBlock(nn.Module):
    """A 5x5x5 kernel a channel, a normalisation over channels, a perceptron at each point, added to the input."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.depthwise = convolution(config, width, width, bias=True, kernel=_KERNEL, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, _EXPANSION * width), nn.GELU(), nn.Linear(_EXPANSION * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), _SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, n, n, n] -> the same shape."""
        points = self.mix(self.norm(self.depthwise(x).movedim(1, -1)))
        return x + (self.scale * points).movedim(-1, 1)


class ConvNeXt3D(StagedBackbone):
    """Stages of ConvNeXt blocks."""

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """A ConvNeXt block."""
        return ConvNeXtBlock(config, width)
