"""The common shape of the backbones on grids: stem, stages of residual blocks, pooled stages.

- The stem makes one point of a block of ``patch``^3 points: all their values are kept, later convolutions are cheap.
- Stages are joined by averages over 2^3 points, which move predictions least when the origin moves. Only origin shifts
  by ``patch * 2^(stages - 1)`` points are exact; training sees the others as augmentation.
- Every stage is pooled: early ones still see single atoms, later ones their neighbourhoods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from taskgroup.models.backbones.base import Backbone, BackboneSettings
from taskgroup.models.layers import GridNorm, KernelConv3d, PeriodicConv3d
from taskgroup.models.pooling import POOLINGS

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig
    from taskgroup.models.views import GridView, PreparedRows


class StagedSettings(BackboneSettings):
    """Settings of backbones with stages."""

    patch: int = Field(
        2,
        ge=1,
        le=16,
        description="edge of the blocks of points that the stem makes one of; divides grid",
    )
    width: int = Field(
        16, ge=2, le=512, description="channels of the first stage; each further stage doubles them"
    )
    stages: int = Field(
        2, ge=1, le=6, description="stages of the backbone; the grid is halved between them"
    )
    blocks: int = Field(1, ge=1, le=8, description="residual blocks per stage")
    symmetric: bool = Field(
        False,
        description="kernels alike along all axes and their signs, so that features are exactly invariant to both",
    )
    pooling: Literal["mean_max", "distribution", "attention"] = Field(
        "distribution",
        description="how the features of all grid points become features of the crystal",
    )

    @property
    def grid_multiple(self) -> int:
        """Edge of the stem's blocks."""
        return self.patch

    def n_points(self, grid: int) -> int:
        """Return how many points there are behind the stem."""
        return (grid // self.patch) ** 3


class StagedBackbone(Backbone):
    """Stem, stages of blocks, pooling; a subclass says what a block is."""

    Settings = StagedSettings

    def __init__(self, config: ModelConfig, view: GridView) -> None:
        super().__init__(config, view)
        settings = config.backbone
        widths = [settings.width * 2**stage for stage in range(settings.stages)]
        self.stem = nn.Sequential(
            KernelConv3d(
                view.out_channels,
                settings.width,
                settings.patch,
                stride=settings.patch,
                bias=False,
                # a kernel of one point has no axes
                symmetric=settings.symmetric and settings.patch > 1,
            ),
            GridNorm(settings.width),
            nn.SiLU(),
        )
        self.widen = nn.ModuleList(
            nn.Conv3d(narrow, wide, 1) for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.stages = nn.ModuleList()
        for width in widths:
            blocks = [self.make_block(config, width) for _ in range(settings.blocks)]
            self.stages.append(nn.Sequential(*blocks))
        self.pools = nn.ModuleList(POOLINGS[settings.pooling](width) for width in widths)
        self.n_features = sum(pool.n_features for pool in self.pools)

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """Return a module from [B, width, n, n, n] to the same shape."""
        raise NotImplementedError

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return the pooled features of all stages."""
        x = self.stem(rows["grid"])
        pooled = []
        for number, (stage, pool) in enumerate(zip(self.stages, self.pools, strict=True)):
            if number:
                x = self.widen[number - 1](_halve(x))
            x = stage(x)
            pooled.append(pool(x))
        return torch.cat(pooled, dim=1)


def convolution(
    config: ModelConfig,
    inputs: int,
    outputs: int,
    dilation: int = 1,
    bias: bool = False,
    kernel: int = 3,
    groups: int = 1,
) -> KernelConv3d:
    """Return a convolution of odd size that keeps the grid: periodic, or with zeros outside the Cartesian cube."""
    symmetric = config.backbone.symmetric
    settings = {"dilation": dilation, "bias": bias, "groups": groups, "symmetric": symmetric}
    if config.view == "cartesian":
        padding = dilation * (kernel // 2)
        return KernelConv3d(inputs, outputs, kernel, padding=padding, **settings)
    return PeriodicConv3d(inputs, outputs, kernel, **settings)


def _halve(x: Tensor) -> Tensor:
    """Return means over 2^3 points; a grid of odd size, or of 2 points, stays as it is."""
    n = x.shape[-1]
    return nn.functional.avg_pool3d(x, 2) if n % 2 == 0 and n > 2 else x
