"""A plain residual 3D CNN: the control that MSA3DCNN must beat (He et al., doi:10.1109/CVPR.2016.90)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from taskgroup.models.backbones.staged import StagedBackbone, convolution
from taskgroup.models.layers import GridNorm

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions added to the input."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(config, width, width),
            GridNorm(width),
            nn.SiLU(),
            convolution(config, width, width),
            GridNorm(width),
        )
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of the input [B, width, n, n, n]."""
        return self.act(x + self.body(x))


class ResNet3D(StagedBackbone):
    """Stages of residual blocks."""

    version = 1

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """Return a residual block."""
        return ResidualBlock(config, width)
