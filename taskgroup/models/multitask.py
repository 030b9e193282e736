"""One network for the targets of a group: view, trunk with a backbone, shared features, one head per target, units."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from taskgroup.datasets import Target, TargetScaler
from taskgroup.errors import ConfigError
from taskgroup.models.config import ModelConfig
from taskgroup.models.registry import BACKBONES
from taskgroup.models.trunk import Trunk
from taskgroup.models.views import CrystalBatch, PreparedRows, View


class MultiTaskNetwork(nn.Module):
    """A multi-task network that takes densities and gives properties in their units.

    Parameters
    ----------
    config: view, backbone, heads.
    targets: the T targets, in the order of the outputs.
    scaler: fitted on the training rows; its numbers become buffers, so weights carry their units.
    in_channels: channels of the density, 1 or 2.

    ``trunk`` holds all that targets share, ``trunk.backbone`` among it, and ``heads`` what each has for itself. The
    state dict and ``to_dict`` rebuild it. ``torch.export`` takes ``predict`` (from densities).
    """

    def __init__(
        self,
        config: ModelConfig,
        targets: Sequence[Target],
        scaler: TargetScaler,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.targets = tuple(targets)
        self.scaler = scaler
        self.in_channels = in_channels
        self.view = make_view(config, in_channels)
        self.trunk = Trunk(config, self.view)
        self.heads = Heads(self.n_features, config.head_width, len(self.targets), config.dropout)
        self.register_buffer("mean", torch.tensor(scaler.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(scaler.std, dtype=torch.float32))

    @property
    def n_features(self) -> int:
        """F, the length of the shared features."""
        return self.trunk.n_features

    def features(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return shared features [B, F] of prepared rows and their cells [B, 3, 3] (Å)."""
        return self.trunk(self.view(rows, lattice), lattice)

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return standardised outputs [B, T] of prepared rows; logits for classification."""
        return self.heads(self.features(rows, lattice))

    def decode(self, outputs: Tensor) -> Tensor:
        """Return values in units of standardised outputs [B, T], and probabilities of logits."""
        learnt = outputs.float() * self.std + self.mean
        columns = [_to_units(target, learnt[:, i]) for i, target in enumerate(self.targets)]
        return torch.stack(columns, dim=1)

    @torch.no_grad()
    def predict(self, crystals: CrystalBatch, *, draws: int = 0) -> Tensor:
        """Return values [B, T] in units of crystals, as in evaluation.

        ``draws`` averages the outputs with those of so many random exact symmetries, always the same ones: a
        prediction then depends less on the description of the cell.
        """
        training = self.training
        self.eval()
        rows, lattice = self.view.prepare(crystals), crystals.lattice.float()
        outputs = self(rows, lattice)
        if draws:
            generator = torch.Generator(rows.device).manual_seed(0)
            for _ in range(draws):
                outputs = outputs + self(*self.view.augment(rows, lattice, generator))
            outputs = outputs / (1 + draws)
        self.train(training)
        return self.decode(outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the weights, as plain JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "targets": [target.to_dict() for target in self.targets],
            "scaler": self.scaler.to_dict(),
            "in_channels": self.in_channels,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "MultiTaskNetwork":
        """Return a network as ``to_dict`` describes it, with new weights; ``load_state_dict`` comes next.

        Raises ConfigError: settings that this version does not know.
        """
        try:
            config = ModelConfig.model_validate(data["config"])
        except ValidationError as error:
            first = error.errors()[0]
            location = ".".join(map(str, ("model", *first["loc"])))
            raise ConfigError(f"{location}: {first['msg']}") from None
        return cls(
            config,
            [Target(**fields) for fields in data["targets"]],
            TargetScaler.from_dict(data["scaler"]),
            data["in_channels"],
        )


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
        """Return standardised outputs [B, T] of features [B, F]."""
        hidden = self.act(self.hidden(features)).unflatten(1, self.weight.shape)
        return (hidden * self.weight).sum(2) + self.straight(features)


def make_view(config: ModelConfig, in_channels: int) -> View:
    """Return the view that the backbone of a configuration names."""
    view_class = BACKBONES.find(config.backbone.name).view_class(config)
    return view_class(config, in_channels)


def _to_units(target: Target, learnt: Tensor) -> Tensor:
    """Return ``Target.inverse`` in tensors; a probability for a class."""
    if target.kind == "classification":
        return learnt.sigmoid()
    if target.transform == "log10":
        return torch.pow(10.0, learnt)
    if target.transform == "signed_log":
        return learnt.sign() * (torch.pow(10.0, learnt.abs()) - 1)
    return learnt
