"""Hooks: a view into a training run without a change of its loop.

>>> class WorstTarget(Hook):
...     def on_epoch(self, context):
...         self.name = min(context.report.skills, key=context.report.skills.get)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn, optim

from taskgroup.models import PreparedRows
from taskgroup.training.result import EpochReport, GroupJob, GroupResult


@dataclass
class HookContext:
    """State of a run, shown to hooks. One object for a whole run; what belongs to a step is replaced at each step.

    Always there: ``job``; ``targets``, the names in the order of every [T] and [B, T] below; ``network`` (a
    MultiTaskNetwork); ``shared``, the parameters behind the features; ``optimizer``; ``epoch`` (from 1); ``step``
    (optimiser steps done so far, from 0); ``target_losses(outputs, labels, present) -> [T]``.

    In ``on_step``, at the steps that the hook looks at, before the backward pass and the optimiser step: ``rows``
    (PreparedRows of the batch) and ``lattice`` [B, 3, 3] after augmentation; ``labels`` [B, T] standardised (0
    where missing); ``present`` [B, T] (1 where there is a label); ``present_targets``, indices of targets with a label
    in the batch; ``features`` [B, F], ``outputs`` [B, T] and ``losses`` [T] with their graph. A hook may differentiate
    them with ``torch.autograd.grad(..., retain_graph=True)``; it must not fill ``.grad`` nor change parameters, and
    should not move numbers to the host each step (that waits for the device).

    In ``on_epoch``: ``report``, the EpochReport. In ``on_end``: ``result``, the GroupResult; the network holds its best
    weights.
    """

    job: GroupJob
    targets: tuple[str, ...]
    network: nn.Module
    shared: list[nn.Parameter]
    optimizer: optim.Optimizer
    target_losses: Callable[[Tensor, Tensor, Tensor], Tensor]
    epoch: int = 0
    step: int = 0
    rows: PreparedRows | None = None
    lattice: Tensor | None = None
    labels: Tensor | None = None
    present: Tensor | None = None
    present_targets: list[int] = field(default_factory=list)
    features: Tensor | None = None
    outputs: Tensor | None = None
    losses: Tensor | None = None
    report: EpochReport | None = None
    result: GroupResult | None = None


class Hook:
    """Base class of hooks; every method does nothing. What a hook collects is its own and not in checkpoints."""

    def on_start(self, context: HookContext) -> None:
        """Act before the first epoch."""

    def looks_at(self, step: int) -> bool:
        """Return whether ``on_step`` is called at a step (from 0); by default at all steps if it is overridden.

        A GPU replays the steps that no hook looks at, which is faster.
        """
        return type(self).on_step is not Hook.on_step

    def on_step(self, context: HookContext) -> None:
        """Act when the losses of a step are computed and the gradients are not."""

    def on_epoch(self, context: HookContext) -> None:
        """Act after an epoch was trained and validated."""

    def on_end(self, context: HookContext) -> None:
        """Act after the last epoch."""
