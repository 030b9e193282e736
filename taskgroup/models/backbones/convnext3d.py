"""ConvNeXt in three dimensions (Liu et al., doi:10.1109/CVPR52688.2022.01167)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from taskgroup.models.backbones.staged import StagedBackbone, convolution

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

# The paper's kernel is 7 wide, in two dimensions; a grid of 8 points would repeat within 7.
_KERNEL = 5
_EXPANSION = 4
# Factor of a block's part at the start; the paper's 1e-6 is for far deeper networks.
_SCALE = 0.1


class ConvNeXtBlock(nn.Module):
    """One 5x5x5 kernel per channel, a normalisation over channels, a perceptron at each point, added to the input."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.depthwise = convolution(config, width, width, bias=True, kernel=_KERNEL, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, _EXPANSION * width), nn.GELU(), nn.Linear(_EXPANSION * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), _SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of the input [B, width, n, n, n]."""
        points = self.depthwise(x).movedim(1, -1)
        mixed = self.scale * self.mix(self.norm(points))
        return x + mixed.movedim(-1, 1)


class ConvNeXt3D(StagedBackbone):
    """Stages of ConvNeXt blocks."""

    version = 1

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """Return a ConvNeXt block."""
        return ConvNeXtBlock(config, width)
