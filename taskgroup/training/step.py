"""One step of training: augmentation, forward, backward, optimiser; on a GPU recorded as a CUDA graph."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taskgroup.models import MultiTaskNetwork, PreparedRows
from taskgroup.training.balance import Balancer, make_balancer
from taskgroup.training.batches import Batch
from taskgroup.training.checkpoint import optimizer_tensors, prefixed, restore_optimizer, under
from taskgroup.training.cuda_graph import CudaGraphCallable
from taskgroup.training.device_rows import DeviceRows, Labels
from taskgroup.training.hooks import Hook, HookContext
from taskgroup.training.losses import TargetLosses
from taskgroup.training.optimise import make_optimizer, match_layouts, move_average
from taskgroup.training.result import GroupJob


class TrainingStep:
    """All that changes from step to step: the network, its averaged copy, balancer and optimiser.

    Parameters
    ----------
    job: settings and targets.
    network: trained in place.
    data, labels: of all rows, on the device.
    generator: of the device; draws the augmentation.
    hooks: shown the steps they look at.
    most_rows: rows of the largest batch.
    pool: memory of CUDA graphs.

    Attributes
    ----------
    averaged: network with exponentially averaged weights; the network itself where ``ema`` is off.
    context: what hooks see.
    """

    def __init__(
        self,
        job: GroupJob,
        network: MultiTaskNetwork,
        data: DeviceRows,
        labels: Labels,
        generator: torch.Generator,
        hooks: Sequence[Hook],
        most_rows: int,
        pool: tuple[int, int] | None,
    ) -> None:
        device = labels.values.device
        self.config = job.training
        self.network = network
        self.averaged = copy.deepcopy(network) if self.config.ema else network
        self.balancer = _balancer(job, device)
        self.optimizer = make_optimizer(network, self.balancer, self.config)
        kinds = [spec.kind for spec in network.targets]
        self.target_losses = TargetLosses(kinds, self.config.loss).to(device)
        self.shared = list(network.trunk.parameters())
        self.hooks = hooks
        self.context = HookContext(
            job, job.targets, network, self.shared, self.optimizer, self.target_losses
        )
        self._data = data
        self._labels = labels
        self._generator = generator
        # Memory for one batch after the other; rows that lie on the host need a place on their way too.
        self._augmented_room = data.batch_room(most_rows)
        self._fetched_room = data.batch_room(most_rows) if data.elsewhere else None
        self._loss_sum = torch.zeros((), device=device)
        self._recorded_step = CudaGraphCallable(self._step, device, [generator], pool)

    def begin_epoch(self) -> None:
        """Switch to training mode and begin a new sum of losses."""
        self.network.train()
        self._loss_sum.zero_()

    def __call__(self, batch: Batch) -> None:
        """Train on a batch; a GPU is only told to, and the host does not wait for it."""
        self.context.present_targets = batch.present_targets
        step = self._recorded_step if self._may_be_recorded(batch) else self._step
        step(batch.rows, batch.rates, *self._fetch(batch.rows))
        self.context.step += 1

    def end_epoch(self) -> Tensor:
        """Return the sum over the epoch's steps of the mean loss of the targets, on the device."""
        if self.balancer is not None:
            self.balancer.end_epoch()
        return self._loss_sum

    @property
    def memory(self) -> int:
        """Bytes that a recorded step takes on a GPU, else 0."""
        return self._recorded_step.memory

    def forget_recordings(self) -> None:
        """Free the memory of CUDA graphs."""
        self._recorded_step.forget()

    def _may_be_recorded(self, batch: Batch) -> bool:
        """Return whether the step does what all others do, on the device alone."""
        # A hook is Python: a replayed step would not call it.
        if any(hook.looks_at(self.context.step) for hook in self.hooks):
            return False
        if self.balancer is None:
            return True
        all_present = len(batch.present_targets) == len(self.context.targets)
        return all_present and self.balancer.stays_on_device

    def _fetch(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return prepared rows and cells that a recorded step cannot fetch by itself, since they lie on the host."""
        if not self._data.elsewhere:
            return ()
        prepared, lattice = self._data.batch(rows, self._fetched_room)
        return *prepared.tensors, lattice

    def _step(self, rows: Tensor, rates: tuple[float, float] | Tensor, *fetched: Tensor) -> Tensor:
        step_rate, ema_rate = rates
        losses = self._forward(rows, fetched)
        # Hooks may differentiate the losses, so they come before the backward pass frees the graph.
        self._show_hooks()
        self._backward(losses)
        self._update(step_rate)
        if self.config.ema:
            move_average(self.averaged, self.network, ema_rate)
        # The sum stays on the device until the end of the epoch: read here, the host would wait at each step.
        return self._loss_sum.add_(losses.detach().mean())

    def _forward(self, rows: Tensor, fetched: tuple[Tensor, ...]) -> Tensor:
        """Return the losses [T] of some rows, with their graph."""
        context = self.context
        context.labels = self._labels.values[rows]
        context.present = self._labels.present[rows]
        # Augmentation draws anew at each step, so no two epochs show the same rows.
        context.rows, context.lattice = self._augmented(rows, fetched)
        context.features = self.network.features(context.rows, context.lattice)
        context.outputs = self.network.heads(context.features)
        context.losses = self.target_losses(context.outputs, context.labels, context.present)
        return context.losses

    def _augmented(self, rows: Tensor, fetched: tuple[Tensor, ...]) -> tuple[PreparedRows, Tensor]:
        """Return prepared rows and cells as the network sees them in training."""
        data, room = self._data, self._augmented_room
        if not fetched:
            if not self.config.augment:
                return data.batch(rows, room)
            return self.network.view.augment(data.rows, data.lattice, self._generator, room, rows)
        *row_tensors, lattice = fetched
        prepared = data.rows.with_tensors(row_tensors)
        if not self.config.augment:
            return prepared, lattice
        return self.network.view.augment(prepared, lattice, self._generator, room)

    def _show_hooks(self) -> None:
        for hook in self.hooks:
            if hook.looks_at(self.context.step):
                hook.on_step(self.context)

    def _backward(self, losses: Tensor) -> None:
        self.optimizer.zero_grad()
        if self.balancer is None:
            losses.sum().backward()
            return
        context = self.context
        self.balancer.backward(losses, context.features, self.shared, context.present_targets)
        # Gradients that a balancer sets may lie in memory otherwise than their parameters.
        match_layouts(self.shared)

    def _update(self, learning_rate: float | Tensor) -> None:
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes from step to step, for a checkpoint."""
        tensors = prefixed("network", self.network.state_dict())
        tensors |= prefixed("optimizer", optimizer_tensors(self.optimizer))
        if self.config.ema:
            tensors |= prefixed("validated", self.averaged.state_dict())
        if self.balancer is not None:
            tensors |= prefixed("balancer", self.balancer.state_dict())
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo ``tensors``."""
        self.network.load_state_dict(under("network", tensors))
        restore_optimizer(self.optimizer, under("optimizer", tensors))
        if self.config.ema:
            self.averaged.load_state_dict(under("validated", tensors))
        if self.balancer is not None:
            self.balancer.load_state_dict(under("balancer", tensors))


def _balancer(job: GroupJob, device: torch.device) -> Balancer | None:
    """Return the balancer of a job; a single target needs none."""
    n_targets = len(job.targets)
    if n_targets == 1:
        return None
    return make_balancer(job.training.balance, n_targets).to(device)
