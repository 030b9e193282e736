"""From features of grid points to features of the crystal; exactly invariant to where a point is."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from taskgroup.models.layers import laid_out

# A constant channel has a gradient too.
_LEAST_VARIANCE = 1e-6
# Mean, deviation, minimum and maximum come before the histogram.
_N_MOMENTS = 4


class MeanMaxPool(nn.Module):
    """Mean and maximum of each channel: [B, C, n, n, n] -> [B, 2 C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_features = 2 * channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, 2 C] of grids [B, C, n, n, n]."""
        return torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1)


class DistributionPool(nn.Module):
    """The distribution of each channel: mean, deviation, extremes and a soft cumulative histogram with learnt edges.

    [B, C, n, n, n] -> [B, C (4 + edges)]; the histogram counts sigmoid((x - edge) * sharpness), after Wang et al.,
    doi:10.1109/WACV.2016.7477688. Mean and maximum alone hide which values a channel takes, hence which atoms.
    """

    def __init__(self, channels: int, edges: int = 4) -> None:
        super().__init__()
        self.n_features = channels * (_N_MOMENTS + edges)
        self.edges = nn.Parameter(torch.linspace(-1.0, 2.0, edges).repeat(channels, 1))
        self.sharpness = nn.Parameter(torch.full((channels, edges), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, C (4 + edges)] of grids [B, C, n, n, n]."""
        if x.is_cpu and not torch.compiler.is_compiling():
            flat = laid_out(x, torch.float32, torch.contiguous_format).flatten(2)
            return _Distribution.apply(flat, self.edges, self.sharpness)[0].flatten(1)
        return self.plainly(x)

    def plainly(self, x: Tensor) -> Tensor:
        """Return the features, computed as the formulas say; compilers and GPUs get this."""
        flat = x.flatten(2)
        mean = flat.mean(2, keepdim=True)
        variance = (flat - mean).square().mean(2, keepdim=True)
        deviation = (variance + _LEAST_VARIANCE).sqrt()
        extremes = torch.stack([flat.amin(2), flat.amax(2)], dim=2)
        above_edge = (flat[:, :, None] - self.edges[:, :, None]) * self.sharpness[:, :, None]
        histogram = above_edge.sigmoid().mean(3)
        return torch.cat([mean, deviation, extremes, histogram], dim=2).flatten(1)


class _Distribution(torch.autograd.Function):
    """``DistributionPool`` with few passes over memory: one edge at a time, so that what is in work stays in cache."""

    @staticmethod
    def forward(x: Tensor, edges: Tensor, sharpness: Tensor) -> tuple[Tensor, ...]:
        """Return [B, C, 4 + edges] of [B, C, P], then what the backward pass needs."""
        mean = x.mean(2, keepdim=True)
        variance = (x - mean).square_().mean(2, keepdim=True)
        deviation = (variance + _LEAST_VARIANCE).sqrt_()
        low, lowest = x.min(2, keepdim=True)
        high, highest = x.max(2, keepdim=True)
        shares = []
        for edge, slope in zip(edges.T[..., None], sharpness.T[..., None], strict=True):
            shares.append((x * slope).sub_(slope * edge).sigmoid_())
        histogram = [share.mean(2, keepdim=True) for share in shares]
        features = torch.cat([mean, deviation, low, high, *histogram], dim=2)
        return features, torch.cat([lowest, highest], dim=2), *shares

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Save what the backward pass needs."""
        features, *saved = output
        ctx.mark_non_differentiable(*saved)
        ctx.save_for_backward(*inputs, features, *saved)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        """Return gradients of the values, the edges and the sharpness."""
        x, edges, sharpness, features, extremes, *shares = ctx.saved_tensors
        n_points = x.shape[2]
        mean, deviation = features[..., :1], features[..., 1:2]
        for_mean, for_deviation = gradient[..., :1], gradient[..., 1:2]
        outward = for_deviation / deviation / n_points
        for_x = (x * outward).add_(for_mean / n_points - outward * mean)
        for_edges, for_sharpness = [], []
        for i, share in enumerate(shares):
            for_share = gradient[..., _N_MOMENTS + i, None] / n_points
            steep = torch.ops.aten.sigmoid_backward(for_share.expand_as(share), share)
            total = steep.sum((0, 2))
            for_edges.append(-sharpness[:, i] * total)
            for_sharpness.append((steep * x).sum((0, 2)) - edges[:, i] * total)
            for_x.addcmul_(steep, sharpness[:, i, None])
        for_x.scatter_add_(2, extremes, gradient[..., 2:4].contiguous())
        return for_x, torch.stack(for_edges, dim=1), torch.stack(for_sharpness, dim=1)


class AttentionPool(nn.Module):
    """The mean, and means weighted by learnt attention, one for each head: [B, C, n, n, n] -> [B, C (1 + heads)]."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.n_features = channels * (1 + heads)
        self.score = nn.Linear(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, C (1 + heads)] of grids [B, C, n, n, n]."""
        points = x.flatten(2).transpose(1, 2)
        weights = self.score(points).softmax(dim=1)
        means = [points.mean(1, keepdim=True), weights.transpose(1, 2) @ points]
        return torch.cat(means, dim=1).flatten(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "mean_max": MeanMaxPool,
    "distribution": DistributionPool,
    "attention": AttentionPool,
}
"""Poolings by the name they have in the settings."""
