"""MSA3DCNN: multi-scale parallel kernels with channel and spatial attention.

The idea is that of Chen et al., arXiv:2510.13207; layer sizes are not public there, these are our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from taskgroup.models.attention import ChannelAttention, SpatialAttention
from taskgroup.models.backbones.staged import StagedBackbone, StagedSettings, convolution
from taskgroup.models.layers import GridNorm, for_convolution, laid_out

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

Dilation = Annotated[int, Field(ge=1, le=8)]


class MSA3DCNNSettings(StagedSettings):
    """Settings of MSA3DCNN."""

    dilations: tuple[Dilation, ...] = Field(
        (1, 2),
        min_length=1,
        description="of the parallel 3x3x3 kernels of a block: reach 2 * dilation + 1",
    )

    @field_validator("dilations")
    @classmethod
    def _distinct(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"values must be distinct, found {list(values)}")
        return values


class MultiScaleBlock(nn.Module):
    """Parallel 3x3x3 kernels of several dilations, mixed, weighed by attention, added to the input.

    A kernel of dilation 2 reaches as far as a 5x5x5 one at a fifth of its cost. The kernels share the channels, so that
    a block costs about as much as one 3x3x3 convolution.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        dilations = config.backbone.dilations
        self.branches = nn.ModuleList()
        for number, dilation in enumerate(dilations):
            # the first branches take the channels that are left over
            size = width // len(dilations) + (number < width % len(dilations))
            if size:
                self.branches.append(convolution(config, width, size, dilation))
        self.norm = GridNorm(width)
        self.mix = nn.Conv3d(width, width, 1, bias=False)
        self.mix_norm = GridNorm(width)
        self.channels = ChannelAttention(width)
        self.places = SpatialAttention(convolution(config, 2, 1, bias=True))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of the input [B, width, n, n, n]."""
        shared = for_convolution(x)
        branches = [branch(shared) for branch in self.branches]
        scales = self.act(self.norm(torch.cat(branches, dim=1)))
        mixed = self.mix_norm(self.mix(scales))
        weighed = self.places(self.channels(mixed))
        return self.act(laid_out(x, weighed.dtype, torch.contiguous_format) + weighed)


class MSA3DCNN(StagedBackbone):
    """Stages of multi-scale blocks with attention."""

    Settings = MSA3DCNNSettings
    version = 1

    @staticmethod
    def make_block(config: ModelConfig, width: int) -> nn.Module:
        """Return a multi-scale block."""
        return MultiScaleBlock(config, width)
