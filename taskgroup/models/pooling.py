"""From features of grid points to features of the crystal; exactly invariant to where a point is."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from taskgroup.models.layers import laid_out

_LEAST_VARIANCE = 1e-6  # a constant channel has a gradient too


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
        if x.is_cpu and not torch.compiler.is_compiling():
            flat = laid_out(x, torch.float32, torch.contiguous_format).flatten(2)
            return _Distribution.apply(flat, self.edges, self.sharpness)[0].flatten(1)
        return self.plainly(x)

    def plainly(self, x: Tensor) -> Tensor:
        """The same, written as the formulas say; what compilers get."""
        flat = x.flatten(2)
        mean = flat.mean(2, keepdim=True)
        deviation = ((flat - mean).square().mean(2, keepdim=True) + _LEAST_VARIANCE).sqrt()
        ends = torch.stack([flat.amin(2), flat.amax(2)], dim=2)
        above = (flat[:, :, None] - self.edges[:, :, None]) * self.sharpness[:, :, None]
        return torch.cat([mean, deviation, ends, above.sigmoid().mean(3)], dim=2).flatten(1)


class _Distribution(torch.autograd.Function):
    """``DistributionPool`` with few passes over memory: an edge at a time, so that what is in work stays in cache."""

    @staticmethod
    def forward(x: Tensor, edges: Tensor, sharpness: Tensor) -> tuple[Tensor, ...]:
        """[B, C, P] -> [B, C, 4 + edges]; also what the backward pass needs."""
        mean = x.mean(2, keepdim=True)
        deviation = ((x - mean).square_().mean(2, keepdim=True) + _LEAST_VARIANCE).sqrt_()
        (low, lowest), (high, highest) = x.min(2, keepdim=True), x.max(2, keepdim=True)
        shares = [
            (x * slope).sub_(slope * edge).sigmoid_()
            for edge, slope in zip(edges.T[..., None], sharpness.T[..., None], strict=True)
        ]
        found = torch.cat(
            [mean, deviation, low, high, *(share.mean(2, keepdim=True) for share in shares)], dim=2
        )
        return found, torch.cat([lowest, highest], dim=2), *shares

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        """Keep them."""
        found, *kept = output
        ctx.mark_non_differentiable(*kept)
        ctx.save_for_backward(*inputs, found, *kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the values, the edges and the sharpness."""
        x, edges, sharpness, found, ends, *shares = ctx.saved_tensors
        points = x.shape[2]
        mean, deviation = found[..., :1], found[..., 1:2]
        outward = gradient[..., 1:2] / deviation / points
        slopes = (x * outward).add_(gradient[..., :1] / points - outward * mean)
        for_edges, for_sharpness = [], []
        for i, share in enumerate(shares):
            each = gradient[..., 4 + i, None] / points
            steep = torch.ops.aten.sigmoid_backward(each.expand_as(share), share)
            total = steep.sum((0, 2))
            for_edges.append(-sharpness[:, i] * total)
            for_sharpness.append((steep * x).sum((0, 2)) - edges[:, i] * total)
            slopes.addcmul_(steep, sharpness[:, i, None])
        slopes.scatter_add_(2, ends, gradient[..., 2:4].contiguous())
        return slopes, torch.stack(for_edges, dim=1), torch.stack(for_sharpness, dim=1)


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
        return torch.cat(
            [points.mean(1, keepdim=True), weights.transpose(1, 2) @ points], dim=1
        ).flatten(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "mean_max": MeanMaxPool,
    "distribution": DistributionPool,
    "attention": AttentionPool,
}
