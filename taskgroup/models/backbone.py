"""The interface of a backbone, and the ones there are.

A backbone turns what the view shows into features of a crystal. A new one is a subclass with a ``name`` and an import
line in ``taskgroup.models``, or an entry point of the group ``taskgroup.backbones``; ``taskgroup.models.testing`` has
the tests it must pass.
"""

from abc import ABC, abstractmethod
from functools import cache
from importlib.metadata import entry_points

from torch import Tensor, nn

from taskgroup.models.config import ModelConfig
from taskgroup.models.pooling import POOLINGS


class Backbone(nn.Module, ABC):
    """Features of a crystal from its grid [B, C', n, n, n].

    Subclasses set ``name`` and, in their constructor, ``n_features``.
    """

    name: str
    n_features: int

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels = config, in_channels

    @abstractmethod
    def forward(self, grid: Tensor) -> Tensor:
        """[B, C', n, n, n] -> [B, n_features]."""


class StagedBackbone(Backbone):
    """Stem, stages that each halve the grid and double the channels, pooling. Subclasses give the block.

    The stem takes 2 x 2 x 2 points at a time: as much is known on an eighth of the points, at an eighth of the cost.
    Downsampling averages, so that a shift by one point moves the features little although only shifts by whole strides
    are exact.
    """

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        width = config.width
        self.stem = nn.Sequential(
            nn.BatchNorm3d(in_channels), nn.Conv3d(in_channels, width, 2, stride=2), nn.BatchNorm3d(width), nn.SiLU()
        )
        stages: list[nn.Module] = []
        for stage in range(config.stages):
            if stage:
                stages += [nn.AvgPool3d(2, ceil_mode=True), nn.Conv3d(width, 2 * width, 1), nn.BatchNorm3d(2 * width)]
                width *= 2
            stages += [self.block(width) for _ in range(config.blocks)]
        self.stages = nn.Sequential(*stages)
        self.pool = POOLINGS[config.pooling](width)
        self.n_features = width * self.pool.factor

    @abstractmethod
    def block(self, width: int) -> nn.Module:
        """A residual block that keeps [B, width, n, n, n]."""

    def forward(self, grid: Tensor) -> Tensor:
        """[B, C', n, n, n] -> [B, n_features]."""
        return self.pool(self.stages(self.stem(grid)))


BACKBONES: dict[str, type[Backbone]] = {}


def register(backbone: type[Backbone]) -> type[Backbone]:
    """Class decorator: make a backbone known by its name."""
    BACKBONES[backbone.name] = backbone
    return backbone


@cache
def backbone_names() -> tuple[str, ...]:
    """All names, plug-ins included."""
    import taskgroup.models  # noqa: F401  # registers ours

    for point in entry_points(group="taskgroup.backbones"):
        BACKBONES.setdefault(point.name, point.load())
    return tuple(sorted(BACKBONES))
