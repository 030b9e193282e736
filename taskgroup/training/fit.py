"""Training of one group from beginning to end: at once, epoch by epoch, or half an epoch at a time.

- A fit owns its random state: fits that take turns, epoch by epoch, give what they would give alone.
- ``fit_epochs`` and ``fit_halves`` are generators: the groups of a trial train in step, and a trial can be pruned.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

import torch

from taskgroup.datasets import Dataset, Split
from taskgroup.errors import ConfigError, TrainingFailed
from taskgroup.training.checkpoint import Checkpoint
from taskgroup.training.device_rows import pick_device
from taskgroup.training.hooks import Hook
from taskgroup.training.loop import Fit, TrainingLoop
from taskgroup.training.pretrain import pretrained_trunk
from taskgroup.training.result import EpochReport, GroupJob

T = TypeVar("T")


class FitOptions(TypedDict, total=False):
    """Options of ``fit`` and ``fit_epochs``; see ``fit_halves``."""

    device: str | torch.device | None
    hooks: Sequence[Hook]
    checkpoint: Checkpoint | str | Path | None


def fit(dataset: Dataset, split: Split, job: GroupJob, **options: Unpack[FitOptions]) -> Fit:
    """Train one group to its end; see ``fit_halves`` for options and errors."""
    epochs = fit_epochs(dataset, split, job, **options)
    while True:
        try:
            next(epochs)
        except StopIteration as end:
            return end.value


def fit_epochs(
    dataset: Dataset, split: Split, job: GroupJob, **options: Unpack[FitOptions]
) -> Generator[EpochReport, None, Fit]:
    """Train one group, an epoch each time the generator is advanced; its return value is the Fit.

    See ``fit_halves`` for options and errors.
    """
    halves = fit_halves(dataset, split, job, **options)
    while True:
        try:
            next(halves)
            report = next(halves)
        except StopIteration as end:
            return end.value
        yield report


def fit_halves(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    *,
    device: str | torch.device | None = None,
    hooks: Sequence[Hook] = (),
    checkpoint: Checkpoint | str | Path | None = None,
) -> Generator[EpochReport | None, None, Fit]:
    """Train one group in two advances per epoch: one yields None once the epoch is begun, the next its report.

    A GPU computes an epoch that was begun while others are begun; a CPU has computed it by then. The return value of
    the generator is the Fit.

    Parameters
    ----------
    dataset: the rows; ``dataset.hash`` must be the job's.
    split: rows to train on and to validate on; test rows are not read.
    job: targets, hyper-parameters and seed. Equal jobs give equal results on a CPU with equally many threads.
    device: see ``pick_device``.
    hooks: called in the order given; see ``Hook``.
    checkpoint: a file to go on from, and to write to as the fit proceeds; see ``Checkpoint``. Epochs done before are
        reported again, so that the reports are the same as without the interruption. The file is left: ``discard`` it
        once the result is stored.

    Raises TrainingFailed: the loss is not finite (``nan``) or memory ran out (``out_of_memory``). TargetError: an
    unknown target, or one without training labels. ConfigError: another dataset, or another job's checkpoint.
    """
    if dataset.hash != job.dataset_hash:
        raise ConfigError(
            f"dataset '{dataset.name}': hash must be {job.dataset_hash[:12]}, found {dataset.hash[:12]}"
        )
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    with _memory_errors(job):
        loop = _begin(dataset, split, job, pick_device(device), hooks, checkpoint)
        loop.notify("on_start")
    try:
        for report in list(loop.reports):
            yield None
            yield report
        while not loop.is_over:
            with _memory_errors(job):
                loop.begin_epoch()
            yield None
            with _memory_errors(job):
                report = loop.end_epoch()
                if checkpoint is not None and not loop.is_over and checkpoint.due():
                    loop.save(checkpoint)
            yield report
        with _memory_errors(job):
            return loop.finish()
    finally:
        loop.close()


def _begin(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    device: torch.device,
    hooks: Sequence[Hook],
    checkpoint: Checkpoint | None,
) -> TrainingLoop:
    """Return a loop that goes on from the checkpoint, from a pre-trained backbone or from new weights."""
    saved = checkpoint.load(job.key) if checkpoint is not None else None
    if saved is not None:
        loop = TrainingLoop(dataset, split, job, device, hooks)
        try:
            loop.restore(*saved)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            # Written by a version or on a device whose state is another one.
            reason = str(error).partition("\n")[0]
            checkpoint.report_unusable(f"it does not fit this training ({reason})")
            loop.close()
        else:
            return loop
    loop = TrainingLoop(dataset, split, job, device, hooks)
    if job.training.pretrain:
        trunk = pretrained_trunk(dataset, split, job, device)
        if trunk:
            loop.begin_with(trunk)
    return loop


@contextlib.contextmanager
def _memory_errors(job: GroupJob) -> Iterator[None]:
    """Turn errors of a device or host without memory into TrainingFailed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        message = str(error).partition("\n")[0]
        is_memory_error = isinstance(error, torch.OutOfMemoryError | MemoryError)
        # The CPU allocator of torch raises a plain RuntimeError.
        if not is_memory_error and "DefaultCPUAllocator" not in message:
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        names = ", ".join(job.targets)
        raise TrainingFailed(f"{names}: out of memory: {message}", "out_of_memory") from error
