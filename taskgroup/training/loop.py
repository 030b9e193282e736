"""One training run between its epochs: network, optimiser, random state, best weights; and how all that is saved."""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskgroup.datasets import Dataset, Split
from taskgroup.errors import TrainingFailed
from taskgroup.models import MultiTaskNetwork, PreparedRows
from taskgroup.training.balance import make_balancer
from taskgroup.training.checkpoint import optimizer_tensors, prefixed, restore_optimizer, under
from taskgroup.training.cuda_graph import CudaGraphCallable, memory_pool
from taskgroup.training.device_rows import encode_labels, network_outputs, prepare_rows
from taskgroup.training.hooks import Hook, HookContext
from taskgroup.training.losses import TargetLosses
from taskgroup.training.metrics import group_metrics
from taskgroup.training.optimise import (
    average_rate,
    bfloat16_wanted,
    learning_rate,
    make_optimizer,
    match_layouts,
    move_average,
    use_bfloat16,
)
from taskgroup.training.result import EpochReport, GroupJob, GroupResult
from taskgroup.training.validation import BestEpochs

_CHOICE = ("epochs", "values", "outputs")  # of BestEpochs, in a snapshot


@dataclass(frozen=True)
class Fit:
    """A trained group: the network with its best weights, the result, and predictions [validation rows, T] in units.

    A row is predicted by the weights of the epoch that the other validation rows chose; see ``BestEpochs``.
    """

    network: MultiTaskNetwork
    result: GroupResult
    predictions: NDArray[np.float32]


class Run:
    """A fit, advanced an epoch at a time; see ``fit_epochs`` for the parameters.

    On a GPU everything goes to a stream of the run's own: while one run's epoch is computed, others can be begun.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        job: GroupJob,
        device: torch.device,
        hooks: Sequence[Hook],
    ) -> None:
        started = time.perf_counter()
        self.job, self.config, self.device, self.hooks = job, job.training, device, hooks
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.random = _RandomState(job.seed, device)
        self.generator = torch.Generator(device).manual_seed(job.seed)
        self.table = dataset.targets.select(job.targets)
        self.validation = split.validation
        with self.in_place():
            scaler, self.labels = encode_labels(self.table, split, device)
            self.network = MultiTaskNetwork(
                job.model, self.table.specs, scaler, dataset.n_channels
            ).to(device)
            self.data = prepare_rows(dataset, self.network.view, device)
            self.bfloat16 = bfloat16_wanted(self.config.precision, device)
            use_bfloat16(self.network, self.bfloat16)
            self.validated = copy.deepcopy(self.network) if self.config.ema else self.network
            self.validation_rows = torch.as_tensor(split.validation, device=device)
            self.target_losses = TargetLosses(
                [spec.kind for spec in self.table.specs], self.config.loss
            ).to(device)
            several = len(job.targets) > 1
            self.balancer = (
                make_balancer(self.config.balance, len(job.targets)).to(device) if several else None
            )
            self.optimizer = make_optimizer(self.network, self.balancer, self.config)
            self._loss = torch.zeros((), device=device)
            known = self.labels.values.cpu().numpy()
            if self.stream is not None:
                self.stream.synchronize()  # prepared rows serve other streams too
        labels = np.where(np.isnan(self.table.values), np.nan, known)
        systems = [dataset.chemical_systems[row] for row in split.validation]
        self.choice = BestEpochs(self.table.specs, labels[split.validation], systems)
        self.shared = list(self.network.trunk.parameters())
        rows = len(self.labels.train)
        self.batches = max(1, min(math.ceil(rows / self.config.batch_size), rows // 2))
        self.rooms = [
            self.data.batch_room(math.ceil(rows / self.batches))
            for _ in range(1 + self.data.elsewhere)
        ]
        self.reports: list[EpochReport] = []
        self.best: dict[str, Tensor] = {}
        self.context = HookContext(
            job, job.targets, self.network, self.shared, self.optimizer, self.target_losses
        )
        pool = memory_pool(device)
        self._recorded_update = CudaGraphCallable(self._update, device, [self.generator], pool)
        self._recorded_outputs = CudaGraphCallable(self._validated_outputs, device, pool=pool)
        self.seconds = time.perf_counter() - started

    @property
    def over(self) -> bool:
        """All epochs are done, or patience has run out."""
        done, patience = len(self.reports), self.config.patience
        return done >= self.config.epochs or bool(patience and done - self.choice.best >= patience)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """With the run's random state in force and, on a GPU, on its stream."""
        if self.stream is None:
            with self.random:
                yield
        else:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
            with self.random, torch.cuda.stream(self.stream):
                yield

    def begin_with(self, trunk: dict[str, Tensor]) -> None:
        """Begin with these weights of the trunk."""
        for network in {self.network, self.validated}:
            network.trunk.load_state_dict(trunk)

    def notify(self, method: str) -> None:
        """Call a method of every hook."""
        for hook in self.hooks:
            getattr(hook, method)(self.context)

    def epoch(self) -> EpochReport:
        """Train and validate once. Raises TrainingFailed: the loss is not finite."""
        self.begin_epoch()
        return self.end_epoch()

    def begin_epoch(self) -> None:
        """Train and validate once; a GPU is only told to, and the host does not wait for it."""
        started = time.perf_counter()
        self.context.epoch = len(self.reports) + 1
        with self.in_place():
            loss, outputs = self.train(), self._outputs(self.validated, self._replayed_outputs)
        self._begun = loss, outputs, time.perf_counter() - started

    def end_epoch(self) -> EpochReport:
        """Report the epoch that was begun. Raises TrainingFailed: the loss is not finite."""
        started = time.perf_counter()
        number = self.context.epoch
        with self.in_place():
            total, outputs, seconds = self._begun
            loss = total.item() / self.batches
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"{', '.join(self.job.targets)}: loss is {loss} in epoch {number}", "nan"
                )
            skills = self.choice.update(number, outputs.cpu().numpy())
            if self.choice.best == number:
                self._keep_weights()
            seconds += time.perf_counter() - started
            self.seconds += seconds
            self.context.report = EpochReport(number, skills, loss, seconds)
            self.reports.append(self.context.report)
            self.notify("on_epoch")
        return self.context.report

    def _keep_weights(self) -> None:
        """Remember the validated weights as the best ones; after the first time in two operations."""
        state = self.validated.state_dict()
        if not self.best:
            self.best = {name: tensor.clone() for name, tensor in state.items()}
        for floats in (True, False):
            names = [name for name, tensor in state.items() if tensor.is_floating_point() is floats]
            torch._foreach_copy_(
                [self.best[name] for name in names], [state[name] for name in names]
            )

    def train(self) -> Tensor:
        """One pass over the training rows; the sum over steps of the mean loss of a target, on the device."""
        self.network.train()
        order = torch.randperm(len(self.labels.train), generator=self.generator, device=self.device)
        batches = self.labels.train[order].tensor_split(self.batches)
        self._loss.zero_()
        for rows, targets, rates in zip(
            batches, self._present_targets(batches), self._rates(), strict=True
        ):
            self.context.present_targets = targets
            update = self._recorded_update if self._may_be_recorded(targets) else self._update
            update(rows, rates, *self._fetched(rows))
            self.context.step += 1
        if self.balancer is not None:
            self.balancer.end_epoch()
        return self._loss

    def _present_targets(self, batches: Sequence[Tensor]) -> list[list[int]]:
        """Targets with a label in each batch; asked of the device once, before the steps."""
        n_targets = len(self.job.targets)
        if self.labels.complete:
            return [list(range(n_targets))] * len(batches)
        there = torch.stack([self.labels.present[rows].any(0) for rows in batches]).tolist()
        return [[i for i in range(n_targets) if batch[i]] for batch in there]

    def _rates(self) -> Sequence[tuple[float, float]] | Tensor:
        """For each step of an epoch the learning rate and that of the averaged weights; on a GPU they lie there."""
        first, steps = self.context.step, self.config.epochs * self.batches
        rates = [
            (learning_rate(self.config, step, steps), average_rate(self.config.ema, step + 1))
            for step in range(first, first + self.batches)
        ]
        return rates if self.stream is None else torch.tensor(rates, device=self.device)

    def _may_be_recorded(self, present_targets: list[int]) -> bool:
        """Whether the next step does what all others do, on the device alone."""
        if any(hook.looks_at(self.context.step) for hook in self.hooks):
            return False
        every = len(present_targets) == len(self.job.targets)
        return self.balancer is None or (every and self.balancer.stays_on_device)

    def _fetched(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Prepared rows and cells that a recorded step cannot fetch by itself, since they are not on the device."""
        if not self.data.elsewhere:
            return ()
        prepared, lattice = self.data.batch(rows, self.rooms[1])
        return *prepared.tensors, lattice

    def _seen(self, rows: Tensor, fetched: tuple[Tensor, ...]) -> tuple[PreparedRows, Tensor]:
        """Prepared rows and cells as the network is shown them."""
        if fetched:
            prepared, lattice = self.data.rows.with_tensors(fetched[:-1]), fetched[-1]
            if not self.config.augment:
                return prepared, lattice
            return self.network.view.augment(prepared, lattice, self.generator, self.rooms[0])
        if not self.config.augment:
            return self.data.batch(rows, self.rooms[0])
        return self.network.view.augment(
            self.data.rows, self.data.lattice, self.generator, self.rooms[0], rows
        )

    def _update(
        self, rows: Tensor, rates: tuple[float, float] | Tensor, *fetched: Tensor
    ) -> Tensor:
        """Forward, backward and the optimiser; the sum so far of the losses' mean."""
        context = self.context
        context.labels, context.present = self.labels.values[rows], self.labels.present[rows]
        context.rows, context.lattice = self._seen(rows, fetched)
        context.features = self.network.features(context.rows, context.lattice)
        context.outputs = self.network.heads(context.features)
        losses = context.losses = self.target_losses(
            context.outputs, context.labels, context.present
        )
        for hook in self.hooks:
            if hook.looks_at(context.step):
                hook.on_step(context)
        self.optimizer.zero_grad()
        if self.balancer is None:
            losses.sum().backward()
        else:
            self.balancer.backward(losses, context.features, self.shared, context.present_targets)
            match_layouts(self.shared)
        if self.config.grad_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[0]
        self.optimizer.step()
        if self.config.ema:
            move_average(self.validated, self.network, rates[1])
        return self._loss.add_(losses.detach().mean())

    def _validated_outputs(self, *tensors: Tensor) -> Tensor:
        """Outputs of the validated network for the flat tensors of prepared rows and their cells."""
        return self.validated(self.data.rows.with_tensors(tensors[:-1]), tensors[-1])

    def _replayed_outputs(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """The same, from a recording where there is one."""
        return self._recorded_outputs(*rows.tensors, lattice)

    def _outputs(
        self,
        network: MultiTaskNetwork,
        forward: Callable[[PreparedRows, Tensor], Tensor] | None = None,
    ) -> Tensor:
        rows = max(64, self.config.batch_size)
        return network_outputs(network, self.data, self.validation_rows, rows, forward)

    def close(self) -> None:
        """Free what only further epochs need."""
        self._recorded_update.forget()
        self._recorded_outputs.forget()

    def finish(self) -> Fit:
        """Put the best weights back; measure them, in float32 as an exported model would be, and those others chose."""
        started = time.perf_counter()
        self.close()
        with self.in_place(), torch.no_grad():
            self.network.load_state_dict(self.best)
            use_bfloat16(self.network, False)
            self.network.eval()
            by_others = torch.as_tensor(
                self.choice.cross_fitted != self.choice.best, device=self.device
            )[:, None]
            kept = torch.as_tensor(self.choice.outputs, device=self.device)
            outputs = torch.where(by_others, kept, self._outputs(self.network))
            predictions = self.network.decode(outputs).cpu().numpy().astype(np.float32)
        result = GroupResult(
            job=self.job,
            metrics=group_metrics(
                self.table.specs, self.table.values[self.validation], predictions
            ),
            curve=tuple(report.skills for report in self.reports),
            seconds=self.seconds + time.perf_counter() - started,
            best_epoch=self.choice.best,
            epochs_run=len(self.reports),
            n_parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            train_curve=tuple(report.loss for report in self.reports),
            peak_memory=self._recorded_update.memory,
        )
        self.context.result = result
        self.notify("on_end")
        return Fit(self.network, result, predictions)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON state from which ``restore`` goes on."""
        tensors = (
            prefixed("network", self.network.state_dict())
            | prefixed("validated", self.validated.state_dict() if self.config.ema else {})
            | prefixed("best", self.best)
            | prefixed(
                "choice", {name: torch.as_tensor(getattr(self.choice, name)) for name in _CHOICE}
            )
            | prefixed("optimizer", optimizer_tensors(self.optimizer))
            | prefixed("balancer", self.balancer.state_dict() if self.balancer is not None else {})
            | prefixed("random", self.random.tensors | {"generator": self.generator.get_state()})
        )
        state = {"step": self.context.step, "seconds": self.seconds}
        return tensors, state | {"reports": [asdict(report) for report in self.reports]}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.network.load_state_dict(under("network", tensors))
        if self.config.ema:
            self.validated.load_state_dict(under("validated", tensors))
        self.best = {
            name: tensor.to(self.device) for name, tensor in under("best", tensors).items()
        }
        restore_optimizer(self.optimizer, under("optimizer", tensors))
        if self.balancer is not None:
            self.balancer.load_state_dict(under("balancer", tensors))
        self.random.tensors = under("random", tensors)
        self.generator.set_state(tensors["random/generator"])
        for name, tensor in under("choice", tensors).items():
            setattr(self.choice, name, tensor.numpy())
        self.context.step = state["step"]
        self.seconds += state["seconds"]
        self.reports = [EpochReport(**report) for report in state["reports"]]


class _RandomState:
    """A run's own global random state (dropout, torchjd): in force inside ``with``, the process's own outside.

    On a GPU a generator of the run's own takes the place of the default one, since recordings draw from the generator
    they were made with.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._own = torch.Generator(device).manual_seed(seed) if device.type == "cuda" else None
        outside = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        self._cpu = torch.get_rng_state()
        torch.set_rng_state(outside)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state, for a snapshot."""
        return {"cpu": self._cpu} | ({} if self._own is None else {"cuda": self._own.get_state()})

    @tensors.setter
    def tensors(self, states: dict[str, Tensor]) -> None:
        self._cpu = states["cpu"]
        if self._own is not None:
            self._own.set_state(states["cuda"])

    def __enter__(self) -> None:
        self._outside = torch.get_rng_state()
        torch.set_rng_state(self._cpu)
        if self._own is not None:
            self._default = torch.cuda.default_generators[self._own.device.index or 0]
            self._default_state = self._default.graphsafe_get_state()
            self._default.graphsafe_set_state(self._own)

    def __exit__(self, *_: object) -> None:
        self._cpu = torch.get_rng_state()
        torch.set_rng_state(self._outside)
        if self._own is not None:
            self._own.graphsafe_set_state(
                self._default.graphsafe_get_state()
            )  # a failed recording replaces it
            self._default.graphsafe_set_state(self._default_state)
