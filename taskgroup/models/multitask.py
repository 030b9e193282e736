"""Backbone, a head a target, and the units of the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taskgroup.datasets import Target, TargetScaler
from taskgroup.models.backbone import BACKBONES, backbone_names
from taskgroup.models.config import ModelConfig
from taskgroup.models.views import make_view

_LATTICE_FEATURES = 4


class MultiTaskNetwork(nn.Module):
    """Densities in, properties out.

    Parameters
    ----------
    config: backbone, view, heads.   targets: what is predicted, in the order of the outputs.
    scaler: standardisation fitted on the training rows.
    in_channels: density channels.   grid: points an axis of the stored densities.
    """

    def __init__(
        self,
        config: ModelConfig,
        targets: Sequence[Target],
        scaler: TargetScaler,
        in_channels: int = 1,
        grid: int = 32,
    ) -> None:
        super().__init__()
        backbone_names()
        self.config, self.targets, self.scaler = config, tuple(targets), scaler
        self.in_channels, self.grid = in_channels, grid
        self.view = make_view(config, in_channels, grid)
        self.backbone = BACKBONES[config.backbone](config, self.view.out_channels)
        self.n_features = self.backbone.n_features + self.view.n_descriptors
        self.n_features += _LATTICE_FEATURES if config.lattice_features else 0
        self.norm = nn.BatchNorm1d(self.n_features)
        self.drop = nn.Dropout(config.dropout)
        self.trunk = nn.Sequential(
            nn.Linear(self.n_features, 4 * config.head_width), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.head = nn.ModuleList(
            nn.Sequential(
                nn.Linear(4 * config.head_width, config.head_width), nn.SiLU(), nn.Linear(config.head_width, 1)
            )
            for _ in self.targets
        )
        self.register_buffer("mean", torch.as_tensor(scaler.mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(scaler.std, dtype=torch.float32))

    def features(self, fields: Tensor, lattice: Tensor) -> Tensor:
        """Shared features [B, F] of prepared rows and cells [B, 3, 3] (Å): what every head sees."""
        grid, rest = self.view.unpack(fields)
        if self.view.has_grid:
            grid = self.view.look(grid, lattice)
        parts = [self.backbone(grid).float(), rest]
        if self.config.lattice_features:
            parts.append(lattice_features(lattice))
        return self.trunk(self.drop(self.norm(torch.cat(parts, dim=1))))

    def heads(self, features: Tensor) -> Tensor:
        """Standardised outputs [B, T] from shared features."""
        return torch.cat([head(features) for head in self.head], dim=1)

    def forward(self, fields: Tensor, lattice: Tensor) -> Tensor:
        """Standardised outputs [B, T], logits for classification."""
        return self.heads(self.features(fields, lattice))

    def decode(self, outputs: Tensor) -> Tensor:
        """Outputs [B, T] in the units of the targets; probabilities for classification."""
        natural = []
        for i, target in enumerate(self.targets):
            value = outputs[:, i].double()
            if target.kind == "classification":
                natural.append(value.sigmoid())
                continue
            value = value * self.std[i] + self.mean[i]
            if target.transform == "log10":
                value = torch.pow(10.0, value)
            elif target.transform == "signed_log":
                value = value.sign() * (torch.pow(10.0, value.abs()) - 1)
            natural.append(value)
        return torch.stack(natural, dim=1)

    @torch.no_grad()
    def predict(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Properties [B, T] in their units from densities [B, C, N, N, N] (e/Å^3) and cells [B, 3, 3] (Å)."""
        self.eval()
        lattice = lattice.float()
        return self.decode(self(self.view.prepare(density, lattice), lattice))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that, with the ``state_dict``, rebuilds the network."""
        return {
            "config": self.config.model_dump(mode="json"),
            "targets": [target.to_dict() for target in self.targets],
            "scaler": self.scaler.to_dict(),
            "in_channels": self.in_channels,
            "grid": self.grid,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "MultiTaskNetwork":
        """The network ``to_dict`` described, with fresh weights."""
        return cls(
            ModelConfig.model_validate(content["config"]),
            [Target(**fields) for fields in content["targets"]],
            TargetScaler.from_dict(content["scaler"]),
            content["in_channels"],
            content["grid"],
        )


def lattice_features(lattice: Tensor) -> Tensor:
    """Log volume and log eigenvalues of the metric [B, 4]: the same for any order, sign or rotation of the vectors."""
    metric = lattice @ lattice.transpose(1, 2)
    eigenvalues = torch.linalg.eigvalsh(metric.float()).clamp_min(1e-6)
    return torch.cat([0.5 * eigenvalues.log().sum(1, keepdim=True), 0.5 * eigenvalues.log()], dim=1)
