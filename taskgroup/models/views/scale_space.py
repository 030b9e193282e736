"""The density at several smoothings: at each point of a grid, numbers that no rotation, shift or cell changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskgroup.models.fourier import Waves, sampled, wave_vectors, waves
from taskgroup.models.views.base import View
from taskgroup.models.views.rows import PreparedRows, channels_last
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

# e/Å^3; where there is less density, its relative slopes are noise.
_LEAST = 1e-3
N_FIELDS = 4
# the six different second derivatives, and how often each stands in the Hessian
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class ScaleSpaceView(View):
    version = 1

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.sigmas = tuple(getattr(config.backbone, "sigmas", (0.0, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 1.1, 1.7)))
        self.stride = getattr(config.backbone, "stride", 1)
        self.n_fields = len(self.sigmas) * (N_FIELDS + self.in_channels - 1)
        if config.descriptors:
            self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        config = self.config
        own = config.grid, self.sigmas
        if not config.descriptors:
            return own
        return *own, config.fields, config.widths, config.scaling

    @torch.no_grad()
    def prepare(self, density: Tensor, lattice: Tensor) -> PreparedRows:
        import os
        density = self._seen(density).float()
        lattice = lattice.float()
        extra = float(os.environ.get("LOWPASS", 0))
        if extra:
            from taskgroup.models.fields import low_passes
            from taskgroup.models.lattice import reciprocal
            density = low_passes(density, reciprocal(lattice), [extra])[0]
        grid = scale_space(density, lattice, self.sigmas, self.config.grid)
        rows = PreparedRows.of(grid=grid)
        if not self.n_statistics:
            return rows
        return rows.replace(statistics=distribution(self._fields(density, lattice), density))

    def augment(self, rows, lattice, generator, out=None, chosen=None):
        """Return rows seen at every ``stride``-th point, from a random one on."""
        grid = rows["grid"]
        if chosen is None:
            chosen = torch.arange(len(rows), device=grid.device)
        n, s = grid.shape[-1], self.stride
        if s == 1:
            return rows.take(chosen, out), lattice[chosen]
        m = n // s
        first = torch.randint(0, s, (len(chosen), 3), generator=generator, device=grid.device)
        steps = torch.arange(m, device=grid.device) * s
        x, y, z = (first[..., None] + steps).unbind(1)
        index = chosen[:, None, None, None] * n**3 + x[:, :, None, None] * n**2 + y[:, None, :, None] * n + z[:, None, None, :]
        points = channels_last(grid).reshape(-1, grid.shape[1])
        moved = points.index_select(0, index.flatten()).view(len(chosen), m, m, m, -1).movedim(-1, 1)
        others = {name: t[chosen] for name, t in rows.items() if name != "grid"}
        return PreparedRows.of(grid=moved, **others), lattice[chosen]


def _forward(self, rows, lattice):
    import os
    if self.training or self.stride == 1 or os.environ.get("FULLEVAL"):
        return rows
    s = self.stride
    return rows.replace(grid=rows["grid"][:, :, ::s, ::s, ::s])


ScaleSpaceView.forward = _forward


def scale_space(density: Tensor, lattice: Tensor, sigmas, n: int) -> Tensor:
    """Return [B, fields, n, n, n]."""
    coefficients = waves(density)
    vectors = wave_vectors(coefficients, lattice)
    square = vectors.square().sum(1)
    fields = []
    for sigma in sigmas:
        gain = torch.exp((-0.5 * sigma**2 * square).clamp_min(-30))[:, None]
        smooth = coefficients[0] * gain, coefficients[1] * gain
        fields.append(_fields((smooth[0][:, :1], smooth[1][:, :1]), vectors, n))
        if density.shape[1] > 1:
            m = sampled((smooth[0][:, 1:], smooth[1][:, 1:]), n)
            fields.append(m.sign() * m.abs().clamp_min(1e-12) ** (1 / 3))
    return torch.cat(fields, dim=1)


def _fields(rho: Waves, vectors: Tensor, n: int) -> Tensor:
    real, imaginary = rho
    turned = -imaginary, real
    slopes = sampled((turned[0] * vectors, turned[1] * vectors), n)
    products = torch.stack([vectors[:, a] * vectors[:, b] for a, b in _PAIRS], 1)
    hessian = sampled((-real * products, -imaginary * products), n)
    value = sampled(rho, n).clamp_min(_LEAST)
    diagonal, mixed = hessian[:, :3], hessian[:, 3:]
    laplacian = diagonal.sum(1, keepdim=True)
    deviation = (diagonal - laplacian / 3).square().sum(1, keepdim=True)
    anisotropy = (deviation + 2 * mixed.square().sum(1, keepdim=True)).sqrt()
    slope = slopes.square().sum(1, keepdim=True).sqrt()
    ratios = torch.cat([slope, laplacian, anisotropy], 1) / value
    return torch.cat([value.log(), torch.asinh(ratios)], 1)
