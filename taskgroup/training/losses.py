"""Per-target losses over the labels that are there."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TargetLosses(nn.Module):
    """Losses of a batch, one a target: Huber (threshold 1) or squared error for regression, BCE for classification.

    Called with outputs [B, T] (standardised predictions, logits for classification), labels [B, T] (standardised, 0/1
    for classification; any finite number where missing) and present [B, T] (1 where there is a label, else 0); gives
    [T], the mean over the labels a target has in the batch. A target without a label gives 0 and no gradient.

    Parameters
    ----------
    kinds: "regression" or "classification" for each target.
    loss: "huber" or "mse", of the regression targets.
    """

    def __init__(self, kinds: Sequence[str], loss: str = "huber") -> None:
        super().__init__()
        classes = torch.tensor([kind == "classification" for kind in kinds])
        self.register_buffer("_is_class", classes, persistent=False)
        self._any_class, self._all_class = bool(classes.any()), bool(classes.all())
        self._regression = F.huber_loss if loss == "huber" else F.mse_loss

    def forward(self, outputs: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        outputs = outputs.float()
        if not self._any_class:
            each = self._regression(outputs, labels, reduction="none")
        elif self._all_class:
            each = F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
        else:
            # where() sends the unused branch a zero gradient; both branches are finite, so nothing leaks
            bce = F.binary_cross_entropy_with_logits(outputs, labels.clamp(0, 1), reduction="none")
            each = torch.where(
                self._is_class, bce, self._regression(outputs, labels, reduction="none")
            )
        return (each * present).sum(0) / present.sum(0).clamp(min=1)
