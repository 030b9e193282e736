"""Losses of a batch, per target, over the labels that exist."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TargetLosses(nn.Module):
    """Losses of a batch: Huber (threshold 1) or squared error for regression targets, cross-entropy for classes.

    Called with outputs [B, T] (standardised predictions, logits for classification), labels [B, T] (standardised, 0/1
    for classification; any finite number where missing) and present [B, T] (1 where there is a label, else 0); returns
    [T], the mean over the labels that a target has in the batch. A target without a label gives 0 and no gradient.

    Parameters
    ----------
    kinds: "regression" or "classification" for each target.
    loss: "huber" or "mse", of the regression targets.
    """

    def __init__(self, kinds: Sequence[str], loss: str = "huber") -> None:
        super().__init__()
        is_class = torch.tensor([kind == "classification" for kind in kinds])
        self.register_buffer("_is_class", is_class, persistent=False)
        # Known on the host once, so that a step does not ask the device for it.
        self._any_class = bool(is_class.any())
        self._all_class = bool(is_class.all())
        self._regression_loss = F.huber_loss if loss == "huber" else F.mse_loss

    def forward(self, outputs: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        row_losses = self._row_losses(outputs.float(), labels)
        return (row_losses * present).sum(0) / present.sum(0).clamp(min=1)

    def _row_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        if not self._any_class:
            return self._regression_loss(outputs, labels, reduction="none")
        if self._all_class:
            return F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
        # where() sends the unused branch a zero gradient; both branches are finite, so nothing leaks.
        regression = self._regression_loss(outputs, labels, reduction="none")
        cross_entropy = F.binary_cross_entropy_with_logits(
            outputs, labels.clamp(0, 1), reduction="none"
        )
        return torch.where(self._is_class, cross_entropy, regression)
