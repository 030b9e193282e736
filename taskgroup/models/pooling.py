"""From features of grid points to features of the crystal; exactly invariant to where a point is."""

import torch
from torch import Tensor, nn


class MeanMaxPool(nn.Module):
    """Mean and maximum of each channel: [B, C, n, n, n] -> [B, 2 C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_features = 2 * channels

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        return torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)


class DistributionPool(nn.Module):
    """The distribution of each channel: mean, deviation, extremes and a soft cumulative histogram with learnt edges.

    [B, C, n, n, n] -> [B, C (4 + edges)]; the histogram counts sigmoid((x - edge) * sharpness), after Wang et al.,
    doi:10.1109/WACV.2016.7477688. Mean and maximum alone hide which values a channel takes, hence which atoms.
    """

    def __init__(self, channels: int, edges: int = 4) -> None:
        super().__init__()
        self.n_features = channels * (4 + edges)
        self.edges = nn.Parameter(torch.linspace(-1.0, 2.0, edges).repeat(channels, 1))
        self.sharpness = nn.Parameter(torch.full((channels, edges), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        flat = x.flatten(2)
        mean = flat.mean(2, keepdim=True)
        deviation = ((flat - mean).square().mean(2, keepdim=True) + 1e-6).sqrt()
        ends = torch.stack([flat.amin(2), flat.amax(2)], dim=2)
        above = (flat[:, :, None] - self.edges[:, :, None]) * self.sharpness[:, :, None]
        return torch.cat([mean, deviation, ends, above.sigmoid().mean(3)], dim=2).flatten(1)


class AttentionPool(nn.Module):
    """The mean, and means weighted by learnt attention, one for each head: [B, C, n, n, n] -> [B, C (1 + heads)]."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.n_features = channels * (1 + heads)
        self.score = nn.Linear(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        points = x.flatten(2).transpose(1, 2)
        weights = self.score(points).softmax(dim=1)
        return torch.cat([points.mean(1, keepdim=True), weights.transpose(1, 2) @ points], dim=1).flatten(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "mean_max": MeanMaxPool,
    "distribution": DistributionPool,
    "attention": AttentionPool,
}
