"""From features on a grid to features of a crystal: all exactly invariant under a reordering of the grid points."""

import torch
from torch import Tensor, nn


class MeanMax(nn.Module):
    """Mean and maximum of each channel."""

    factor = 2

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> [B, 2 C]."""
        return torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)


class Distribution(nn.Module):
    """Mean, standard deviation, minimum, maximum and a soft histogram of each channel.

    The histogram's three bins have learned centres and widths a channel, so the network chooses which part of the
    distribution decides. Peaks that tell the element from its neighbours survive where a mean would hide them.
    """

    factor = 7
    _bins = 3

    def __init__(self, channels: int) -> None:
        super().__init__()
        centres = torch.linspace(-1.0, 1.5, self._bins).repeat(channels, 1)
        self.centres = nn.Parameter(centres)
        self.log_widths = nn.Parameter(torch.zeros(channels, self._bins))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> [B, 7 C]."""
        flat = x.flatten(2)
        distance = (flat[:, :, None] - self.centres[..., None]) * self.log_widths.exp()[..., None]
        histogram = torch.exp(-distance.square()).mean(-1).flatten(1)
        mean = flat.mean(-1)
        deviation = (flat.var(-1, unbiased=False) + 1e-6).sqrt()
        return torch.cat([mean, deviation, flat.amin(-1), flat.amax(-1), histogram], dim=1)


class AttentionPool(nn.Module):
    """Four learned weightings of the grid points, each a mean of the channels (softmax over the points)."""

    factor = 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv3d(channels, self.factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, n, n, n] -> [B, 4 C]."""
        weights = self.score(x).flatten(2).softmax(-1)
        return torch.einsum("bhp,bcp->bhc", weights, x.flatten(2)).flatten(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "mean_max": MeanMax,
    "distribution": Distribution,
    "attention": AttentionPool,
}
