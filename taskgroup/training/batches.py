"""Batches of an epoch: which rows, in which order, at which learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taskgroup.training.config import TrainConfig
from taskgroup.training.device_rows import Labels
from taskgroup.training.optimise import average_rate, learning_rate


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    - rows: int64 [B] on the device.
    - present_targets: indices of the targets that have a label in the batch.
    - rates: learning rate of the step, and of the averaged weights; on a GPU a tensor [2] there.
    """

    rows: Tensor
    present_targets: list[int]
    rates: tuple[float, float] | Tensor


class Batches:
    """Draws the batches of each epoch.

    Batches share the rows evenly, so that every row is seen each epoch and no batch is left with a single row, which
    batch normalisation cannot train on.

    Parameters
    ----------
    labels: of all rows; ``labels.train`` are drawn.
    config: batch size and schedule.
    generator: of the device; draws the order.
    """

    def __init__(self, labels: Labels, config: TrainConfig, generator: torch.Generator) -> None:
        self._labels = labels
        self._config = config
        self._generator = generator
        rows = len(labels.train)
        most_batches = rows // 2  # at least two rows in each
        self.per_epoch = max(1, min(math.ceil(rows / config.batch_size), most_batches))
        self.most_rows = math.ceil(rows / self.per_epoch)

    @property
    def steps(self) -> int:
        """Steps of the whole training, by which the learning rate is scheduled."""
        return self._config.epochs * self.per_epoch

    def draw(self, first_step: int) -> list[Batch]:
        """Return the batches of an epoch that begins at a step (from 0). The device is asked for numbers here only."""
        rows = self._labels.train
        order = torch.randperm(len(rows), generator=self._generator, device=rows.device)
        parts = rows[order].tensor_split(self.per_epoch)
        targets = self._present_targets(parts)
        rates = self._rates(first_step)
        contents = zip(parts, targets, rates, strict=True)
        return [Batch(*content) for content in contents]

    def _present_targets(self, parts: Sequence[Tensor]) -> list[list[int]]:
        n_targets = self._labels.present.shape[1]
        if self._labels.complete:
            return [list(range(n_targets))] * len(parts)
        # One transfer for all steps: asked at each step, the host would wait for the device each time.
        has_label = [self._labels.present[rows].any(0) for rows in parts]
        on_host = torch.stack(has_label).tolist()
        return [_true_positions(flags) for flags in on_host]

    def _rates(self, first_step: int) -> Sequence[tuple[float, float]] | Tensor:
        config = self._config
        rates = []
        for step in range(first_step, first_step + self.per_epoch):
            step_rate = learning_rate(config, step, self.steps)
            ema_rate = average_rate(config.ema, step + 1)
            rates.append((step_rate, ema_rate))
        device = self._labels.train.device
        if device.type != "cuda":
            return rates
        # A recorded step reads its rates from the device; one transfer brings those of all steps there.
        return torch.tensor(rates, device=device)


def _true_positions(flags: Sequence[bool]) -> list[int]:
    return [position for position, flag in enumerate(flags) if flag]
