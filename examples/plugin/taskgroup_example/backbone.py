"""A backbone with a view and a setting of its own: a perceptron on the power spectrum of the density."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from taskgroup.models import (
    Backbone,
    BackboneSettings,
    CrystalBatch,
    ModelConfig,
    PreparedRows,
    View,
)

# Shells of equal width in the length of the reciprocal vector, 1/Å. The stored densities hold little beyond 12 1/Å.
_N_SHELLS = 24
_LARGEST = 12.0


class SpectrumView(View):
    """The mean of |rho(G)|^2 over shells of reciprocal vectors: it knows neither origin nor orientation."""

    version = 1

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings of the network that decide what ``prepare`` gives: none."""
        return ()

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows ``spectrum`` [B, shells] of the densities [B, C, n1, n2, n3] of crystals."""
        density = crystals.density
        waves = torch.fft.fftn(density[:, 0].float(), dim=(1, 2, 3), norm="forward")
        power = waves.abs().square().flatten(1)
        # The grid follows the size of the cell, so its three axes may differ.
        steps = [torch.fft.fftfreq(n, 1 / n, device=density.device) for n in density.shape[2:]]
        indices = torch.cartesian_prod(*steps)
        reciprocal = 2 * math.pi * torch.linalg.inv(crystals.lattice.float()).transpose(1, 2)
        lengths = torch.linalg.vector_norm(indices @ reciprocal, dim=2)
        shell = (lengths * (_N_SHELLS / _LARGEST)).long().clamp_max(_N_SHELLS)
        # What lies beyond the last shell is collected in one more and left out.
        sums = power.new_zeros(len(power), _N_SHELLS + 1).scatter_add(1, shell, power)
        counts = power.new_zeros(sums.shape).scatter_add(1, shell, torch.ones_like(power))
        mean = sums / counts.clamp_min(1)
        return PreparedRows.of(spectrum=torch.log(mean[:, :_N_SHELLS] + 1e-8))


class RadialMLP(Backbone):
    """Two layers on the power spectrum."""

    # Raise it whenever equal settings give other numbers: networks are then trained again, old bundles refused.
    version = 1

    class Settings(BackboneSettings):
        """Settings that only this backbone has; a search space may search each of them."""

        hidden: int = Field(32, ge=1, le=1024, description="units of the hidden layer")

    def __init__(self, config: ModelConfig, view: View) -> None:
        super().__init__(config, view)
        hidden = config.backbone.hidden
        self.n_features = hidden
        self.layers = nn.Sequential(
            nn.LayerNorm(_N_SHELLS),
            nn.Linear(_N_SHELLS, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
        )

    @classmethod
    def view_class(cls, config: ModelConfig) -> type[View]:
        """Return the view whose rows this backbone takes."""
        return SpectrumView

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, hidden]."""
        return self.layers(rows["spectrum"])
