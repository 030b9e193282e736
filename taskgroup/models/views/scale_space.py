"""The scale space of a density: what it looks like at each point through Gaussians of several widths.

At every point of a fixed grid, for each width (Å): the logarithm of the low-passed density, its slope, its Laplacian
and the anisotropy of its second derivatives, relative to the density. None of them changes with a rotation, a shift or
another cell of the same crystal. They are computed from the Fourier series of the stored density at exactly these
points: a stored grid of any shape is resampled without interpolation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskgroup.errors import ConfigError
from taskgroup.models.fourier import Waves, sampled, wave_vectors, waves
from taskgroup.models.lattice import reciprocal
from taskgroup.models.views.grid import GridView
from taskgroup.models.views.rows import PreparedRows
from taskgroup.models.views.statistics import distribution

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig
    from taskgroup.models.views.crystal_batch import CrystalBatch

# Logarithm of the density, slope, Laplacian, anisotropy.
_N_FIELDS = 4
# e/Å^3; where there is less density, its relative slopes are noise.
_LEAST_DENSITY = 1e-3
# Exponents below this give nothing but denormal numbers, at which processors are slow.
_VANISHING = -30.0
# The six different second derivatives: the diagonal of the Hessian first.
_SECOND_DERIVATIVES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
# The clamp keeps the slope of a cube root finite.
_LEAST_MAGNETISATION = 1e-12


class ScaleSpaceView(GridView):
    """Rows of ``grid`` [B, n_fields, n, n, n] and, if asked for, ``statistics`` [B, D]; n = ``config.grid``.

    ``config.backbone`` names the widths ``sigmas`` (Å) and the ``stride``: a network sees every so-manieth point along
    each axis. In training they begin at a random point, so that over the epochs it sees them all.
    """

    version = 1

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        settings = config.backbone
        missing = {"sigmas", "stride"} - set(type(settings).model_fields)
        if missing:
            raise ConfigError(
                f"model.backbone: the scale space needs settings sigmas and stride, {settings.name} has none"
            )
        self.sigmas = settings.sigmas
        self.stride = settings.stride
        self.n_fields = len(self.sigmas) * (_N_FIELDS + self.in_channels - 1)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives; fields are in the distribution only."""
        config = self.config
        own = config.grid, self.sigmas, config.descriptors
        if not config.descriptors:
            return own
        return *own, config.fields, config.widths, config.scaling

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the densities of crystals."""
        density = self._seen(crystals).float()
        lattice = crystals.lattice.float()
        rows = PreparedRows.of(grid=scale_space(density, lattice, self.sigmas, self.config.grid))
        if not self.n_statistics:
            return rows
        return rows.replace(statistics=distribution(self._fields(density, lattice), density))

    def forward(self, rows: PreparedRows, lattice: Tensor) -> PreparedRows:
        """Return rows with every ``stride``-th point of the grid along each axis."""
        step = self.stride
        return rows.replace(grid=rows["grid"][:, :, ::step, ::step, ::step])

    def _turned(
        self, lattice: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Turn nothing: the fields are the same in every orientation; only the first point is drawn."""
        count, device = len(lattice), lattice.device
        same_order = torch.arange(3, device=device).expand(count, 3)
        return torch.ones_like(same_order), same_order, lattice


def scale_space(density: Tensor, lattice: Tensor, sigmas: tuple[float, ...], n: int) -> Tensor:
    """Return fields [B, F, n, n, n] of densities [B, C, N1, N2, N3] (e/Å^3) in cells [B, 3, 3] (Å).

    For each width (Å) the four fields of the total density, then the signed cube roots of a magnetisation.
    """
    real, imaginary = waves(density)
    vectors = wave_vectors(density.shape[2:], reciprocal(lattice))
    square = vectors.square().sum(1, keepdim=True)
    fields = []
    for sigma in sigmas:
        gain = torch.exp((-0.5 * sigma**2 * square).clamp_min(_VANISHING))
        smooth_real, smooth_imaginary = real * gain, imaginary * gain
        total = smooth_real[:, :1], smooth_imaginary[:, :1]
        fields.append(_fields_of_total(total, vectors, n))
        if density.shape[1] > 1:
            magnetisation = sampled((smooth_real[:, 1:], smooth_imaginary[:, 1:]), (n, n, n))
            size = magnetisation.abs().clamp_min(_LEAST_MAGNETISATION) ** (1 / 3)
            fields.append(magnetisation.sign() * size)
    return torch.cat(fields, dim=1)


def _fields_of_total(rho: Waves, vectors: Tensor, n: int) -> Tensor:
    """Return logarithm, slope, Laplacian and anisotropy [B, 4, n, n, n] of a density's Fourier series.

    The last three are relative to the density, and their inverse hyperbolic sines: linear for the valence, logarithmic
    for cores.
    """
    real, imaginary = rho
    density = sampled(rho, (n, n, n)).clamp_min(_LEAST_DENSITY)
    # a derivative multiplies a wave by i times its vector
    gradient = sampled((-imaginary * vectors, real * vectors), (n, n, n))
    slope = gradient.square().sum(1, keepdim=True).sqrt()
    products = [vectors[:, i] * vectors[:, j] for i, j in _SECOND_DERIVATIVES]
    squares = torch.stack(products, dim=1)
    hessian = sampled((-real * squares, -imaginary * squares), (n, n, n))
    diagonal, mixed = hessian[:, :3], hessian[:, 3:]
    laplacian = diagonal.sum(1, keepdim=True)
    off_mean = (diagonal - laplacian / 3).square().sum(1, keepdim=True)
    anisotropy = (off_mean + 2 * mixed.square().sum(1, keepdim=True)).sqrt()
    relative = torch.cat([slope, laplacian, anisotropy], dim=1) / density
    return torch.cat([density.log(), torch.asinh(relative)], dim=1)
