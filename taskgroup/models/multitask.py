"""One network for the targets of a group: view, backbone, shared features, a head a target, units."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from taskgroup.datasets import Target, TargetScaler
from taskgroup.errors import ConfigError
from taskgroup.models.backbones.descriptors import DescriptorNetwork
from taskgroup.models.config import ModelConfig
from taskgroup.models.lattice import N_LATTICE_FEATURES, lattice_features
from taskgroup.models.registry import find_backbone
from taskgroup.models.views import (
    CartesianView,
    DistributionView,
    FractionalView,
    PeakView,
    PreparedRows,
    View,
)


class MultiTaskNetwork(nn.Module):
    """A multi-task network that takes densities and gives properties in their units.

    Args:
        config: view, backbone, heads.
        targets: the T targets, in the order of the outputs.
        scaler: fitted on the training rows; its numbers become buffers, so weights carry their units.
        in_channels: channels of the density, 1 or 2.

    ``backbone`` holds all that targets share and ``heads`` what each has for itself. The state dict and ``to_dict``
    rebuild it. ``torch.export`` takes ``forward`` (from prepared rows) and ``predict`` (from densities).
    """

    def __init__(
        self,
        config: ModelConfig,
        targets: Sequence[Target],
        scaler: TargetScaler,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        self.config, self.targets, self.scaler, self.in_channels = (
            config,
            tuple(targets),
            scaler,
            in_channels,
        )
        self.view = make_view(config, in_channels)
        self.backbone = Trunk(config, self.view)
        self.heads = Heads(self.n_features, config.head_width, len(self.targets), config.dropout)
        self.register_buffer("mean", torch.tensor(scaler.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(scaler.std, dtype=torch.float32))

    @property
    def n_features(self) -> int:
        """F, the length of the shared features."""
        return self.backbone.n_features

    def features(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return shared features [B, F] of prepared rows and their cells [B, 3, 3] (Å)."""
        return self.backbone(self.view(rows, lattice), lattice)

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return standardised outputs [B, T] of prepared rows; logits for classification."""
        return self.heads(self.features(rows, lattice))

    def decode(self, outputs: Tensor) -> Tensor:
        """Standardised outputs [B, T] -> values in units; logits -> probabilities."""
        learnt = outputs.float() * self.std + self.mean
        return torch.stack(
            [_to_units(spec, learnt[:, i]) for i, spec in enumerate(self.targets)], dim=1
        )

    @torch.no_grad()
    def predict(self, density: Tensor, lattice: Tensor, *, draws: int = 0) -> Tensor:
        """Values [B, T] in units of densities [B, C, N, N, N] (e/Å^3) in cells [B, 3, 3] (Å), as in evaluation.

        ``draws`` averages the outputs with those of so many random exact symmetries, always the same ones: a
        prediction then depends less on the description of the cell.
        """
        training = self.training
        self.eval()
        rows, lattice = self.view.prepare(density, lattice), lattice.float()
        outputs = self(rows, lattice)
        if draws:
            generator = torch.Generator(rows.device).manual_seed(0)
            drawn = (self(*self.view.augment(rows, lattice, generator)) for _ in range(draws))
            outputs = sum(drawn, outputs) / (1 + draws)
        self.train(training)
        return self.decode(outputs)

    def to_dict(self) -> dict[str, Any]:
        """All but the weights, for JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "targets": [spec.to_dict() for spec in self.targets],
            "scaler": self.scaler.to_dict(),
            "in_channels": self.in_channels,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "MultiTaskNetwork":
        """A network as ``to_dict`` describes it, with new weights; ``load_state_dict`` comes next.

        Raises ConfigError: settings that this version does not know.
        """
        try:
            config = ModelConfig.model_validate(data["config"])
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"model.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return cls(
            config,
            [Target(**fields) for fields in data["targets"]],
            TargetScaler.from_dict(data["scaler"]),
            data["in_channels"],
        )


class Trunk(nn.Module):
    """All that targets share: the distribution beside the backbone, the backbone, the cell, joined to features [B, F].

    Features are a layer's plus a linear map's, so that what is a plain sum (mass over volume) need not be bent and
    unbent, nor be known through dropout; behind them, as they are, stand the backbone's plain sums and the cell.
    """

    def __init__(self, config: ModelConfig, view: View) -> None:
        super().__init__()
        kind = find_backbone(config.backbone)
        self.sees, self.uses_cell = kind.sees, config.lattice_features
        in_channels = {"grid": "out_channels", "peaks": "n_columns", "distribution": "n_statistics"}
        self.net = kind(config, getattr(view, in_channels[kind.sees]))
        self.n_plain = self.net.n_plain + N_LATTICE_FEATURES * self.uses_cell
        joined = self.net.n_features + N_LATTICE_FEATURES * self.uses_cell
        self.statistics = None
        if kind.sees != "distribution" and view.n_statistics:
            self.statistics = DescriptorNetwork(config, view.n_statistics)
            joined += self.statistics.n_features
        self.norm = nn.BatchNorm1d(joined)
        self.bent = nn.Sequential(
            nn.Linear(joined, config.features), nn.SiLU(), nn.Dropout(config.dropout)
        )
        self.straight = nn.Linear(joined, config.features)
        self.n_features = config.features + self.n_plain

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of what the view shows and cells [B, 3, 3]."""
        parts = [] if self.statistics is None else [self.statistics(rows, lattice)]
        parts.append(self.net(rows, lattice))
        if self.uses_cell:
            parts.append(lattice_features(lattice))
        joined = self.norm(torch.cat(parts, dim=1))
        plain = joined[:, joined.shape[1] - self.n_plain :]
        return torch.cat([self.bent(joined) + self.straight(joined), plain], dim=1)


class Heads(nn.Module):
    """A perceptron with one hidden layer plus a linear map for each target, all in three products: [B, F] -> [B, T]."""

    def __init__(self, n_features: int, width: int, n_targets: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_targets * width)
        self.act = nn.Sequential(nn.SiLU(), nn.Dropout(dropout))
        self.weight = nn.Parameter(torch.empty(n_targets, width).uniform_(-1, 1) / width**0.5)
        self.straight = nn.Linear(n_features, n_targets)
        nn.init.zeros_(self.straight.weight)
        nn.init.zeros_(self.straight.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Standardised outputs."""
        hidden = self.act(self.hidden(features)).unflatten(1, self.weight.shape)
        return (hidden * self.weight).sum(2) + self.straight(features)


def make_view(config: ModelConfig, in_channels: int) -> View:
    """The view that a configuration asks for."""
    kinds = {"distribution": DistributionView, "peaks": PeakView, "grid": FractionalView}
    sees = find_backbone(config.backbone).sees
    return (CartesianView if sees == "grid" and config.view == "cartesian" else kinds[sees])(
        config, in_channels
    )


def _to_units(spec: Target, learnt: Tensor) -> Tensor:
    """``Target.inverse`` in tensors; a probability for a class."""
    if spec.kind == "classification":
        return learnt.sigmoid()
    if spec.transform == "log10":
        return torch.pow(10.0, learnt)
    return (
        learnt.sign() * (torch.pow(10.0, learnt.abs()) - 1)
        if spec.transform == "signed_log"
        else learnt
    )
