"""The training loop of one group, an epoch at a time.

- Rows, labels and augmentation live on the device; the host waits for it once an epoch, not once a step.
- On a GPU everything goes to a stream of the fit's own: while one fit's epoch is computed, others can be begun.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taskgroup.datasets import Dataset, Split, TargetTable
from taskgroup.errors import TrainingFailed
from taskgroup.models import MultiTaskNetwork
from taskgroup.training.batches import Batches
from taskgroup.training.checkpoint import Checkpoint, prefixed, under
from taskgroup.training.cuda_graph import memory_pool
from taskgroup.training.device_rows import Labels, encode_labels, prepare_rows
from taskgroup.training.hooks import Hook
from taskgroup.training.isolation import Isolation
from taskgroup.training.metrics import group_metrics
from taskgroup.training.optimise import bfloat16_wanted, use_bfloat16
from taskgroup.training.result import EpochReport, GroupJob, GroupResult
from taskgroup.training.step import TrainingStep
from taskgroup.training.validation import BestEpochs, Validation


@dataclass(frozen=True)
class Fit:
    """A trained group: the network with its best weights, the result, and predictions [validation rows, T] in units.

    A row is predicted by the weights of the epoch that the other validation rows chose; see ``BestEpochs``.
    """

    network: MultiTaskNetwork
    result: GroupResult
    predictions: NDArray[np.float32]


@dataclass(frozen=True)
class _BegunEpoch:
    """An epoch that a GPU may still compute: sum of losses and validation outputs there, seconds on the host."""

    loss_sum: Tensor
    outputs: Tensor
    seconds: float


class TrainingLoop:
    """A fit, advanced an epoch at a time; see ``fit_halves`` for the parameters."""

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        job: GroupJob,
        device: torch.device,
        hooks: Sequence[Hook] = (),
    ) -> None:
        started = time.perf_counter()
        self.job = job
        self.device = device
        self.hooks = hooks
        self.reports: list[EpochReport] = []
        self.isolation = Isolation(job.seed, device)
        self.generator = torch.Generator(device).manual_seed(job.seed)
        self.table = dataset.targets.select(job.targets)
        with self.isolation.active():
            self._build(dataset, split)
            # Prepared rows serve other streams too.
            self.isolation.synchronise()
        self.context = self.step.context
        self.seconds = time.perf_counter() - started

    def _build(self, dataset: Dataset, split: Split) -> None:
        config = self.job.training
        scaler, self.labels = encode_labels(self.table, split, self.device)
        network = MultiTaskNetwork(self.job.model, self.table.specs, scaler, dataset.n_channels)
        self.network = network.to(self.device)
        self.data = prepare_rows(dataset, self.network.view, self.device)
        self.bfloat16 = bfloat16_wanted(config.precision, self.device)
        use_bfloat16(self.network, self.bfloat16)
        pool = memory_pool(self.device)
        self.batches = Batches(self.labels, config, self.generator)
        self.step = TrainingStep(
            self.job,
            self.network,
            self.data,
            self.labels,
            self.generator,
            self.hooks,
            self.batches.most_rows,
            pool,
        )
        rows = split.validation
        systems = [dataset.chemical_systems[row] for row in rows]
        best = BestEpochs(self.table.specs, _known_labels(self.table, self.labels)[rows], systems)
        self.validation = Validation(
            self.step.averaged, self.data, rows, best, config.batch_size, pool
        )

    @property
    def is_over(self) -> bool:
        """True once all epochs are done, or patience has run out."""
        done = len(self.reports)
        patience = self.job.training.patience
        is_stopped_early = patience > 0 and done - self.validation.best.best >= patience
        return done >= self.job.training.epochs or is_stopped_early

    def begin_with(self, trunk: dict[str, Tensor]) -> None:
        """Begin with these weights of the trunk."""
        for network in {self.network, self.step.averaged}:
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
        with self.isolation.active():
            loss_sum = self.train()
            outputs = self.validation.outputs()
        self._begun = _BegunEpoch(loss_sum, outputs, time.perf_counter() - started)

    def train(self) -> Tensor:
        """Make one pass over the training rows; return the sum of the steps' mean losses, on the device."""
        self.step.begin_epoch()
        for batch in self.batches.draw(first_step=self.context.step):
            self.step(batch)
        return self.step.end_epoch()

    def end_epoch(self) -> EpochReport:
        """Report the epoch that was begun. Raises TrainingFailed: the loss is not finite."""
        started = time.perf_counter()
        number = self.context.epoch
        with self.isolation.active():
            loss = self._begun.loss_sum.item() / self.batches.per_epoch
            if not math.isfinite(loss):
                names = ", ".join(self.job.targets)
                raise TrainingFailed(f"{names}: loss is {loss} in epoch {number}", "nan")
            skills = self.validation.update(number, self._begun.outputs)
            seconds = self._begun.seconds + time.perf_counter() - started
            self.seconds += seconds
            self.context.report = EpochReport(number, skills, loss, seconds)
            self.reports.append(self.context.report)
            self.notify("on_epoch")
        return self.context.report

    def finish(self) -> Fit:
        """Put the best weights back and measure them, in float32 as an exported network would be."""
        started = time.perf_counter()
        self.close()
        with self.isolation.active(), torch.no_grad():
            self.network.load_state_dict(self.validation.best_weights)
            use_bfloat16(self.network, False)
            self.network.eval()
            outputs = self.validation.final_outputs(self.network)
            predictions = self.network.decode(outputs).cpu().numpy().astype(np.float32)
        truth = self.table.values[self.validation.rows]
        result = GroupResult(
            job=self.job,
            metrics=group_metrics(self.table.specs, truth, predictions),
            curve=tuple(report.skills for report in self.reports),
            seconds=self.seconds + time.perf_counter() - started,
            best_epoch=self.validation.best.best,
            epochs_run=len(self.reports),
            n_parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            train_curve=tuple(report.loss for report in self.reports),
            peak_memory=self.step.memory,
        )
        self.context.result = result
        self.notify("on_end")
        return Fit(self.network, result, predictions)

    def close(self) -> None:
        """Free what only further epochs need."""
        self.step.forget_recordings()
        self.validation.forget_recordings()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write down all that ``restore`` needs to go on."""
        random = self.isolation.random.tensors() | {"generator": self.generator.get_state()}
        state = {
            "step": self.context.step,
            "seconds": self.seconds,
            "reports": [asdict(report) for report in self.reports],
        }
        # On the fit's own stream, where the best weights may still be written.
        with self.isolation.on_stream():
            tensors = self.step.tensors() | self.validation.tensors() | prefixed("random", random)
            checkpoint.save(self.job.key, tensors, state)

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from what ``save`` wrote."""
        with self.isolation.on_stream():
            self.step.restore(tensors)
            self.validation.restore(tensors)
        random = under("random", tensors)
        self.generator.set_state(random.pop("generator"))
        self.isolation.random.restore(random)
        self.context.step = state["step"]
        self.seconds += state["seconds"]
        self.reports = [EpochReport(**report) for report in state["reports"]]


def _known_labels(table: TargetTable, labels: Labels) -> NDArray:
    """Return the standardised labels of all rows [rows, T] on the host, NaN where missing."""
    return np.where(np.isnan(table.values), np.nan, labels.values.cpu().numpy())
