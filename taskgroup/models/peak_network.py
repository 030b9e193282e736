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
_LARGEST_SCORE = 20.0  # of attention: its exponential stays finite
_ABSENT = -1e4  # below every feature
_VANISHING = 30.0  # exp(-30) is nothing beside 1; far smaller numbers are denormal, and processors slow at them


class PeakScale(nn.Module):
    """Columns brought to mean 0 and variance 1 over the peaks seen in training, and cut off at ``_FARTHEST``."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))

    def forward(self, peaks: Tensor, present: Tensor) -> Tensor:
        """[R, columns], present (1 or 0) [R, 1] -> the same shape."""
        if self.training:
            with torch.no_grad():
                count = present.sum().clamp_min(1)
                self.batches += 1
                self.mean += ((peaks * present).sum(0) / count - self.mean) / self.batches
                self.square += ((peaks.square() * present).sum(0) / count - self.square) / self.batches
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
        peaks, present, owner = _listed(fields)
        distance = (peaks[:, 1:2] - self.levels) * (_LEVELS / (_HIGHEST - _LOWEST))
        levels = torch.exp(-distance.square().clamp_max(_VANISHING))
        found = self.embed(torch.cat([self.scale(peaks, present), levels], dim=1)).float()
        share = (_LARGEST_SCORE * (self.score(found).float() / _LARGEST_SCORE).tanh()).exp()
        heads = (found.unflatten(1, (_HEADS, -1)) * share[:, :, None]).flatten(1)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(len(fields), values.shape[1]).index_add(0, owner, values * present)

        count, weight = total(present).clamp_min(1), total(share).clamp_min(1e-30)
        mean = total(found) / count
        deviation = (total((found - mean[owner]).square()) / count + 1e-6).sqrt()
        highest = found.new_full((len(fields), found.shape[1]), _ABSENT)
        highest = highest.scatter_reduce(0, owner[:, None].expand_as(found), found + (1 - present) * _ABSENT, "amax")
        attended = total(heads).unflatten(1, (_HEADS, -1)) / weight[:, :, None]
        return torch.cat([mean, deviation, highest, attended.flatten(1)], dim=1)


def _listed(fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All peaks of a batch [B, K, columns] one below the other: [R, columns], present [R, 1], whose they are [R].

    On a CPU only those that are there, a third or less of all. Elsewhere all: to count them the host would wait for the
    device, and a traced program may not depend on the number.
    """
    present = fields[:, :, 0] > 0.5
    if fields.is_cpu and not torch.compiler.is_compiling():
        return fields[present], present.new_ones(int(present.sum()), 1, dtype=fields.dtype), present.nonzero()[:, 0]
    owner = torch.arange(len(fields), device=fields.device).repeat_interleave(fields.shape[1])
    return fields.flatten(0, 1), present.flatten()[:, None].to(fields.dtype), owner
