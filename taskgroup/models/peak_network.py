"""A network on the peaks of a density: an embedding of each, then pooled, so that their order does not matter."""

import torch
from torch import Tensor, nn

from taskgroup.models.backbone import Backbone
from taskgroup.models.config import ModelConfig

_HEADS = 8
_LEVELS = 80  # soft bins of the logarithm of the height: narrow enough to tell an element from its neighbour
_FARTHEST = 5.0  # deviations; a rare surrounding must not throw a prediction off
_LEAST_VARIANCE = 1e-4  # a column that hardly varies says nothing
_LOWEST, _HIGHEST = -4.6, 2.2  # of the scaled height: 0.02 to 500 e/Å^3


class PeakScale(nn.Module):
    """Columns brought to mean 0 and variance 1 over the peaks seen in training, and cut off at ``_FARTHEST``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))

    def forward(self, peaks: Tensor, present: Tensor) -> Tensor:
        """[B, K, columns], present [B, K, 1] -> the same shape."""
        if self.training:
            with torch.no_grad():
                count = present.sum().clamp_min(1)
                self.batches += 1
                self.mean += ((peaks * present).sum((0, 1)) / count - self.mean) / self.batches
                self.square += ((peaks.square() * present).sum((0, 1)) / count - self.square) / self.batches
        deviation = (self.square - self.mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()
        return ((peaks - self.mean) / deviation).clamp(-_FARTHEST, _FARTHEST)


class PeakNetwork(Backbone):
    """A perceptron embeds each peak by height and surroundings; mean, deviation, maximum and attention pool them.

    Sets of any size (Zaheer et al., arXiv:1703.06114), with attention over the peaks (Ilse et al., arXiv:1802.04712).
    """

    sees = "peaks"

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        width = 8 * config.width
        self.register_buffer("levels", torch.linspace(_LOWEST, _HIGHEST, _LEVELS), persistent=False)
        self.scale = PeakScale(in_channels)
        self.embed = nn.Sequential(
            nn.Linear(in_channels + _LEVELS, width), nn.SiLU(), nn.Dropout(config.dropout),
            nn.Linear(width, width), nn.SiLU(),
        )  # fmt: skip
        self.score = nn.Linear(width, _HEADS)
        self.n_features = 4 * width

    def forward(self, fields: Tensor, lattice: Tensor) -> Tensor:
        """Peaks [B, K, columns], the first column 1 for those that are there -> [B, F]."""
        if fields.is_cpu and not torch.compiler.is_compiling():  # the highest come first, the rest is empty
            fields = fields[:, : int((fields[:, :, 0] > 0.5).sum(1).max().clamp_min(1))]
        present = (fields[:, :, :1] > 0.5).to(fields.dtype)
        distance = (fields[:, :, 1:2] - self.levels) * (_LEVELS / (_HIGHEST - _LOWEST))
        found = self.embed(torch.cat([self.scale(fields, present), torch.exp(-(distance**2))], dim=2))
        count = present.sum(1).clamp_min(1)
        mean = (found * present).sum(1) / count
        deviation = (((found - mean[:, None]) ** 2 * present).sum(1) / count + 1e-6).sqrt()
        absent = (1 - present) * -1e4
        weight = (self.score(found) + absent).softmax(dim=1)
        attended = torch.einsum("bkh,bkhf->bhf", weight, found.unflatten(2, (_HEADS, -1)))
        return torch.cat([mean, deviation, (found + absent).amax(1), attended.flatten(1)], dim=1)
