"""A plain residual 3D CNN, the control that MSA3DCNN must beat."""

from torch import Tensor, nn

from taskgroup.models.backbone import StagedBackbone, register
from taskgroup.models.layers import PeriodicConv3d


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 periodic convolutions and a shortcut (He et al., arXiv:1603.05027)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            PeriodicConv3d(width, width, 3, bias=False),
            nn.BatchNorm3d(width),
            nn.SiLU(),
            PeriodicConv3d(width, width, 3, bias=False),
            nn.BatchNorm3d(width),
        )
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, n, n, n] -> the same shape."""
        return self.activation(x + self.body(x))


@register
class ResNet3D(StagedBackbone):
    """Residual stages without attention."""

    name = "resnet3d"

    def block(self, width: int) -> nn.Module:
        """A plain residual block."""
        return ResidualBlock(width)
