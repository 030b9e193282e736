"""Radial3D: a 3D CNN whose kernels are radial functions in Å, applied in Fourier space.

- The input is the density's scale space: a bank of fixed kernels, what they give at each point is invariant already.
- A perceptron reads at each point whether an atom is near, and which element; a dense lesson teaches it.
- Blocks convolve learnt channels with learnt mixes of Gaussians and spheres. Their periodic images come with the
  Fourier series, so reach has no limit and neither cell, origin nor orientation matters.
- Pooled are means over the cell, means by attention, means over what was read as atoms, and sums per volume.

Filters of this kind: solid harmonic scattering (Eickenberg et al., doi:10.1063/1.5023798), steerable kernels (Weiler et
al., arXiv:1807.02547), here for order 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES
from taskgroup.models.backbones.base import Backbone, BackboneSettings
from taskgroup.models.backbones.radial_layers import (
    PointAttention,
    RadialConv,
    RadialKernels,
    Whitening,
    wave_square,
    weighted_moments,
)
from taskgroup.models.backbones.voxel_lesson import ATOM_INTEGRAL, VoxelLesson, VoxelReader
from taskgroup.models.lattice import volume
from taskgroup.models.views.scale_space import ScaleSpaceView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskgroup.models.backbones.base import Lesson
    from taskgroup.models.config import ModelConfig
    from taskgroup.models.views import PreparedRows, View

Sigma = Annotated[float, Field(ge=0, le=5)]

# Widths and radii (Å) of the kernels: a bond, the next shells of neighbours.
_GAUSSIANS = (0.5, 1.0, 1.6, 2.4)
_SHELLS = (1.2, 1.8, 2.4, 3.0, 3.6, 4.2)
_KERNELS = {
    "gaussians": (_GAUSSIANS, ()),
    "shells": ((), _SHELLS),
    "both": (_GAUSSIANS, _SHELLS),
}
# Learnt channels whose mean over the cell, a sum per volume, reaches the heads as it is.
_DENSE = 32
# Atoms per Å^3 of a usual crystal.
_USUAL = 0.05
# No atom at all is read nowhere: its logarithm stays finite.
_LEAST_PRESENCE = 1e-4


class Radial3DSettings(BackboneSettings):
    """Settings of the network."""

    width: int = Field(24, ge=2, le=512, description="channels at each point")
    sigmas: tuple[Sigma, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 1.1, 1.7),
        min_length=1,
        description="widths (Å) of the Gaussians through which the density is seen, four fields each",
    )
    stride: int = Field(
        2,
        ge=1,
        le=8,
        description="the network sees every so-manieth point along each axis; divides grid",
    )
    reader: int = Field(
        64, ge=4, le=1024, description="units of the layers that read the atoms at each point"
    )
    blocks: int = Field(1, ge=0, le=8, description="residual blocks with a radial convolution")
    words: int = Field(
        16, ge=1, le=512, description="channels that a block convolves, its main cost"
    )
    kernels: Literal["gaussians", "shells", "both"] = Field(
        "both", description="radial functions that the kernels are mixed of"
    )
    heads: int = Field(8, ge=1, le=64, description="attention weights by which points are pooled")

    @field_validator("sigmas")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"values must be distinct, found {list(values)}")
        return values

    @property
    def grid_multiple(self) -> int:
        """The stride."""
        return self.stride

    def n_points(self, grid: int) -> int:
        """Return how many points of a crystal the layers see."""
        return (grid // self.stride) ** 3


class RadialBlock(nn.Module):
    """Channels chosen at each point are convolved, and a perceptron adds what came of it."""

    def __init__(self, width: int, words: int, kernels: int, dropout: float) -> None:
        super().__init__()
        self.say = nn.Linear(width, words)
        self.convolve = RadialConv(words, kernels)
        self.hear = nn.Sequential(
            nn.Linear(width + words, 2 * width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, points: Tensor, multipliers: Tensor, n: int) -> Tensor:
        """Return points [B, n^3, width] of a grid after the block."""
        said = self.say(points).float().transpose(1, 2)
        # channels first and whole in memory, as Fourier transforms want them
        grid = said.contiguous().unflatten(2, (n, n, n))
        heard = self.convolve(grid, multipliers).flatten(2).transpose(1, 2)
        return points + self.hear(torch.cat([points, heard], dim=2))


class Radial3D(Backbone):
    """A network of radial convolutions on the points of a grid; see the module."""

    Settings = Radial3DSettings
    version = 1
    # Elements differ by less than bfloat16 can hold.
    autocast = False

    def __init__(self, config: ModelConfig, view: ScaleSpaceView) -> None:
        super().__init__(config, view)
        settings = config.backbone
        width = settings.width
        n_read = 1 + len(PROPERTIES)
        self.whitening = Whitening(view.n_fields)
        self.reader = VoxelReader(view.n_fields, settings.reader)
        self.embed = nn.Sequential(
            nn.Linear(view.n_fields + n_read, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
            nn.SiLU(),
        )
        self.kernels = RadialKernels(*_KERNELS[settings.kernels])
        blocks = []
        for _ in range(settings.blocks):
            blocks.append(RadialBlock(width, settings.words, len(self.kernels), config.dropout))
        self.blocks = nn.ModuleList(blocks)
        self.attention = PointAttention(width, settings.heads)
        self.dense = nn.Linear(width, _DENSE)
        self.n_plain = _DENSE + len(PROPERTIES) + 3
        n_pooled = 3 * width + settings.heads * width + 2 * (width + len(PROPERTIES))
        self.n_features = n_pooled + self.n_plain

    @classmethod
    def view_class(cls, config: ModelConfig) -> type[View]:
        """Return the view of the scale space."""
        return ScaleSpaceView

    def lessons(self) -> Sequence[Lesson]:
        """Return the dense lesson on the atoms at each point."""
        return (VoxelLesson(self.reader, self.whitening),)

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of the scale space at the points of a grid, and cells [B, 3, 3] (Å)."""
        grid = rows["grid"]
        crystals, n = grid.shape[0], grid.shape[-1]
        fields = grid.flatten(2).transpose(1, 2)
        whitened = self.whitening(fields.flatten(0, 1))
        presence, properties = self.reader(whitened)
        points = self.embed(torch.cat([whitened, presence, properties], dim=1))
        points = points.unflatten(0, (crystals, -1))
        if self.blocks:
            multipliers = self.kernels.multipliers(wave_square(grid, lattice))
            for block in self.blocks:
                points = block(points, multipliers, n)
        presence = presence.unflatten(0, (crystals, -1))
        properties = properties.unflatten(0, (crystals, -1))
        share = presence / presence.sum(1, keepdim=True).clamp_min(_LEAST_PRESENCE)
        pooled = self._pooled(points, properties, share)
        mean_element = (properties * share).sum(1)
        plain = self._plain(points, mean_element, atoms_per_volume(presence, lattice))
        return torch.cat([*pooled, *plain], dim=1)

    def _pooled(self, points: Tensor, properties: Tensor, share: Tensor) -> list[Tensor]:
        """Return moments, maxima and attention over all points, and moments over what was read as atoms."""
        everywhere = torch.full_like(share, 1 / share.shape[1])
        described = torch.cat([points, properties], dim=2)
        return [
            weighted_moments(points, everywhere),
            points.amax(1),
            self.attention(points),
            weighted_moments(described, share),
        ]

    def _plain(self, points: Tensor, mean_element: Tensor, atoms: Tensor) -> list[Tensor]:
        """Return sums per volume, atoms per volume, the volume per atom, and its logarithm."""
        relative = atoms / _USUAL
        return [
            self.dense(points).mean(1).float(),
            mean_element * relative,
            relative,
            1 / relative,
            relative.log(),
        ]


def atoms_per_volume(presence: Tensor, lattice: Tensor) -> Tensor:
    """Return atoms per Å^3 [B, 1] of their presence [B, P, 1] at the points of cells [B, 3, 3] (Å).

    A cell holds a whole number of atoms: rounded, it is exact where the reader is right within half an atom. The
    gradient passes by the rounding.
    """
    size = volume(lattice.float()).abs()[:, None]
    read = (presence.mean(1) * (size / ATOM_INTEGRAL)).clamp_min(_LEAST_PRESENCE)
    whole = read.round().clamp_min(1)
    return (read + (whole - read).detach()) / size
