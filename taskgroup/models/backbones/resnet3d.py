"""A plain residual 3D CNN: the control that MSA3DCNN must beat (He et al., doi:10.1109/CVPR.2016.90)."""

from torch import Tensor, nn

from taskgroup.models.backbones.base import StagedBackbone, convolution
from taskgroup.models.config import ModelConfig
from taskgroup.models.layers import GridNorm


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
        """[B, width, n, n, n] -> the same shape."""
        return self.act(x + self.body(x))


class ResNet3D(StagedBackbone):
    """Stages of residual blocks."""

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """A residual block."""
        return ResidualBlock(config, width)
