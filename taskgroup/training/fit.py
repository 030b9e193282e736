"""Training one group to its end.

- Rows, labels and augmentation live on the device; the host waits for it once an epoch, not once a step.
- Batches share the rows evenly, so that every row is seen each epoch and no batch is left with a single row.
- A fit owns its random state: fits that take turns, epoch by epoch, give what they would give alone.
- ``fit_epochs`` is a generator, one epoch a step: the groups of a trial train in step, and a trial can be pruned.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch

from taskgroup.datasets import Dataset, Split
from taskgroup.errors import ConfigError, TrainingFailed
from taskgroup.training.checkpoint import Checkpoint
from taskgroup.training.device_rows import pick_device
from taskgroup.training.hooks import Hook
from taskgroup.training.loop import Fit, Run
from taskgroup.training.pretrain import pretrained_trunk
from taskgroup.training.result import EpochReport, GroupJob


def fit(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    *,
    device: str | torch.device | None = None,
    hooks: Sequence[Hook] = (),
    checkpoint: Checkpoint | str | Path | None = None,
) -> Fit:
    """Train one group to its end; see ``fit_epochs``."""
    epochs = fit_epochs(dataset, split, job, device=device, hooks=hooks, checkpoint=checkpoint)
    while True:
        try:
            next(epochs)
        except StopIteration as end:
            return end.value


def fit_epochs(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    *,
    device: str | torch.device | None = None,
    hooks: Sequence[Hook] = (),
    checkpoint: Checkpoint | str | Path | None = None,
) -> Generator[EpochReport, None, Fit]:
    """Train one group, an epoch each time the generator is advanced; its return value is the Fit.

    Parameters
    ----------
    dataset: the rows; ``dataset.hash`` must be the job's.
    split: rows to train on and to validate on; test rows are not looked at.
    job: targets, hyper-parameters and seed. Equal jobs give equal results on a CPU with equally many threads.
    device: see ``pick_device``.
    hooks: called in the order given; see ``Hook``.
    checkpoint: a file to go on from, and to write to as the fit proceeds; see ``Checkpoint``. Epochs done before are
        reported again, so that the reports are the same as without the interruption.

    Raises TrainingFailed: the loss is not finite (``nan``) or memory ran out (``out_of_memory``). TargetError: an
    unknown target, or one without training labels. ConfigError: another dataset, or another job's checkpoint.
    """
    if dataset.hash != job.dataset_hash:
        raise ConfigError(
            f"dataset '{dataset.name}': hash must be {job.dataset_hash[:12]}, found {dataset.hash[:12]}"
        )
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    halves = fit_halves(dataset, split, job, device=device, hooks=hooks, checkpoint=checkpoint)
    while True:
        try:
            next(halves)
            yield next(halves)
        except StopIteration as end:
            return end.value


def fit_halves(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    *,
    device: str | torch.device | None = None,
    hooks: Sequence[Hook] = (),
    checkpoint: Checkpoint | None = None,
) -> Generator[EpochReport | None, None, Fit]:
    """``fit_epochs`` in two advances an epoch: one gives None once the epoch is begun, the next its report.

    A GPU computes an epoch that was begun while others are begun; a CPU has computed it by then.
    """
    with _memory_errors(job):
        run = Run(dataset, split, job, pick_device(device), hooks)
        if checkpoint and (saved := checkpoint.load(job.key)):
            run.restore(*saved)
        elif job.training.pretrain and (
            learnt := pretrained_trunk(dataset, split, job, run.device)
        ):
            run.begin_with(learnt)
        run.notify("on_start")
    try:
        for report in list(run.reports):
            yield None
            yield report
        while not run.over:
            with _memory_errors(job):
                run.begin_epoch()
            yield None
            with _memory_errors(job):
                report = run.end_epoch()
                if checkpoint and not run.over and checkpoint.due():
                    checkpoint.save(job.key, *run.snapshot())
            yield report
        with _memory_errors(job):
            return run.finish()
    finally:
        run.close()


@contextlib.contextmanager
def _memory_errors(job: GroupJob) -> Iterator[None]:
    """Turn what is raised when memory ends into TrainingFailed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).partition("\n")[0]
        # the CPU allocator raises a plain RuntimeError
        if (
            not isinstance(error, torch.OutOfMemoryError | MemoryError)
            and "DefaultCPUAllocator" not in text
        ):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise TrainingFailed(
            f"{', '.join(job.targets)}: out of memory: {text}", "out_of_memory"
        ) from error
