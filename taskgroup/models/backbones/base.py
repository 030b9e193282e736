"""What every backbone is, and the common shape of those on grids: stem, stages of residual blocks, pooled stages.

- The stem makes one point of a block of ``patch``^3 points: all their values are kept, later convolutions are cheap.
- Stages are joined by averages over 2^3 points, which move predictions least when the origin moves. Only origin shifts
  by ``patch * 2^(stages - 1)`` points are exact; training sees the others as augmentation.
- Every stage is pooled: early ones still see single atoms, later ones their neighbourhoods.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from taskgroup.models.config import ModelConfig
from taskgroup.models.layers import GridNorm, KernelConv3d, PeriodicConv3d
from taskgroup.models.pooling import POOLINGS
from taskgroup.models.views.rows import PreparedRows


class Backbone(nn.Module):
    """From what a view shows to features of the crystal.

    Args of a subclass:
        config: the settings; a subclass reads what it needs.
        in_channels: of what it sees: channels C' of the grid, the length D of the distribution, columns of a peak.

    ``n_features`` is F; the last ``n_plain`` of them are plain sums, which heads see as they are, too. A backbone works
    on grids of any size that ``config.patch`` divides, and on a single row in evaluation. ``sees`` is ``grid``,
    ``distribution`` or ``peaks``: the view whose rows it takes.

    A plug-in names its subclass under the entry point group ``taskgroup.backbones`` and runs
    ``taskgroup.models.testing.BackboneConformance`` in its tests.
    """

    sees: Literal["grid", "distribution", "peaks"] = "grid"
    n_features: int
    n_plain: int = 0

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of what the view shows and cells [B, 3, 3] (Å)."""
        raise NotImplementedError


class StagedBackbone(Backbone):
    """Stem, stages of blocks, pooling; a subclass says what a block is."""

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        widths = [config.width * 2**stage for stage in range(config.stages)]
        self.stem = nn.Sequential(
            KernelConv3d(
                in_channels,
                config.width,
                config.patch,
                stride=config.patch,
                bias=False,
                symmetric=config.symmetric and config.patch > 1,
            ),
            GridNorm(config.width),
            nn.SiLU(),
        )
        self.widen = nn.ModuleList(
            nn.Conv3d(a, b, 1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(self.make_block(config, width) for _ in range(config.blocks)))
            for width in widths
        )
        self.pools = nn.ModuleList(POOLINGS[config.pooling](width) for width in widths)
        self.n_features = sum(pool.n_features for pool in self.pools)

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """A module from [B, width, n, n, n] to the same shape."""
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
    """A convolution of odd size that keeps the grid: periodic, or with zeros outside the Cartesian cube."""
    settings = {"dilation": dilation, "bias": bias, "groups": groups, "symmetric": config.symmetric}
    if config.view == "cartesian":
        return KernelConv3d(inputs, outputs, kernel, padding=dilation * (kernel // 2), **settings)
    return PeriodicConv3d(inputs, outputs, kernel, **settings)


def _halve(x: Tensor) -> Tensor:
    """Means over 2^3 points; a grid of odd size, or of 2 points, stays as it is."""
    n = x.shape[-1]
    return nn.functional.avg_pool3d(x, 2) if n % 2 == 0 and n > 2 else x
