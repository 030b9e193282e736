"""Layers of networks on the points of a density: whitening, radial convolution, pooling."""

import math

import torch
from torch import Tensor, nn

from taskgroup.models.fourier import sampled, wave_vectors, waves
from taskgroup.models.lattice import reciprocal

# Whitened columns are cut off here: a rare surrounding must not throw a prediction off.
_FARTHEST = 8.0
# Least variance of a column, and of a direction among standardised columns: below it is noise.
_LEAST_VARIANCE = 1e-6
_LEAST_SHARE = 1e-4
# Spread (Å) of the shells' thickness.
_SHELL_WIDTH = 0.35
# Limit of attention scores: their exponential stays finite.
_LARGEST_SCORE = 20.0


class Whitening(nn.Module):
    """Columns with mean 0 and variance 1, and uncorrelated once a lesson has shown it all points.

    Fields at neighbouring widths are nearly equal, and what tells an element is how they differ: without whitening a
    perceptron needs several times as many steps to see it.
    """

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("is_fixed", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("square", torch.ones(columns))
        self.register_buffer("matrix", torch.eye(columns))

    def forward(self, points: Tensor) -> Tensor:
        """Return whitened points [P, columns]; in training their running means go on until ``fix`` was called."""
        if self.training:
            self._update(points)
        deviation = (self.square - self.mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()
        # chosen on the device: the host does not wait to know which it is
        matrix = torch.where(self.is_fixed > 0, self.matrix, torch.diag(1 / deviation))
        return ((points - self.mean) @ matrix).clamp(-_FARTHEST, _FARTHEST)

    @torch.no_grad()
    def fix(self, points: Tensor) -> None:
        """Whiten by the covariance of these points [P, columns] from now on."""
        points = points.double()
        mean = points.mean(0)
        deviation = points.var(0).clamp_min(_LEAST_VARIANCE).sqrt()
        standardised = (points - mean) / deviation
        correlation = standardised.T @ standardised / len(points)
        variances, directions = torch.linalg.eigh(correlation)
        whitening = directions / (variances.clamp_min(0) + _LEAST_SHARE).sqrt()
        self.mean.copy_(mean)
        self.matrix.copy_(whitening / deviation[:, None])
        self.is_fixed.fill_(1)

    @torch.no_grad()
    def _update(self, points: Tensor) -> None:
        self.seen += len(points)
        rate = (1 - self.is_fixed) * len(points) / self.seen
        self.mean += rate * (points.mean(0) - self.mean)
        self.square += rate * (points.square().mean(0) - self.square)


class RadialKernels:
    """Fourier multipliers [B, K, n, n, n / 2 + 1] of radial kernels in Å, for the cells of a batch.

    Gaussians of the widths ``reach``; spheres of the radii ``shells``, blurred. Their multipliers depend on the length
    of the wave vector alone, so they are the same in every orientation and cell, periodic images included.
    """

    def __init__(self, reach: tuple[float, ...], shells: tuple[float, ...]) -> None:
        self.reach = reach
        self.shells = shells

    def __len__(self) -> int:
        return len(self.reach) + len(self.shells)

    def multipliers(self, square: Tensor) -> Tensor:
        """Return the multipliers [B, K, ...] of squared wave vectors [B, ...] (1/Å^2)."""
        kernels = [torch.exp(-0.5 * width**2 * square) for width in self.reach]
        length = square.sqrt()
        blur = torch.exp(-0.5 * _SHELL_WIDTH**2 * square)
        kernels += [torch.sinc(length * (radius / math.pi)) * blur for radius in self.shells]
        return torch.stack(kernels, dim=1)


class RadialConv(nn.Module):
    """A convolution of each channel with its own mix of radial kernels; exact for every cell, shift and rotation."""

    def __init__(self, channels: int, kernels: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(channels, kernels) / kernels**0.5)

    def forward(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Return convolved channels [B, C, n, n, n]; multipliers [B, K, ...] are those of ``wave_square``."""
        n = x.shape[-1]
        gain = torch.einsum("ck,bkxyz->bcxyz", self.mix, multipliers)
        if torch.compiler.is_compiling():
            # exported programs have no complex numbers
            real, imaginary = waves(x)
            return sampled((real * gain, imaginary * gain), (n, n, n))
        spectrum = torch.fft.rfftn(x, dim=(2, 3, 4))
        return torch.fft.irfftn(spectrum * gain, s=(n, n, n), dim=(2, 3, 4))


def wave_square(x: Tensor, lattice: Tensor) -> Tensor:
    """Return squared wave vectors [B, ...] (1/Å^2) of grids ``x`` [B, C, n, n, n], in the order of ``RadialConv``."""
    if torch.compiler.is_compiling():
        return wave_vectors(x.shape[2:], reciprocal(lattice.float())).square().sum(1)
    n = x.shape[-1]
    index = torch.fft.fftfreq(n, 1 / n, device=x.device)
    half = torch.arange(n // 2 + 1, device=x.device, dtype=index.dtype)
    indices = torch.stack(torch.meshgrid(index, index, half, indexing="ij"))
    vectors = 2 * math.pi * (reciprocal(lattice.float()) @ indices.flatten(1))
    return vectors.square().sum(1).unflatten(1, indices.shape[1:])


class PointAttention(nn.Module):
    """Means over points, weighted by learnt attention, one for each head: [B, P, W] -> [B, heads * W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, heads)

    def forward(self, points: Tensor) -> Tensor:
        """Return the weighted means [B, heads * W]."""
        bounded = _LARGEST_SCORE * (self.score(points) / _LARGEST_SCORE).tanh()
        share = bounded.float().softmax(dim=1)
        return (share.transpose(1, 2) @ points).flatten(1)


def weighted_moments(points: Tensor, weight: Tensor) -> Tensor:
    """Return mean and deviation [B, 2 W] of points [B, P, W] with weights [B, P, 1] of sum 1."""
    mean = (points * weight).sum(1)
    variance = ((points - mean[:, None]).square() * weight).sum(1)
    return torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=1)
