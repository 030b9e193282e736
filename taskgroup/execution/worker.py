"""Training the jobs of a trial in step, and the worker process that does so on request.

Messages of the process, each with what it carries:

    parent -> worker   train (jobs, keep, threads, checkpoint_seconds), then go_on (keys) after every epoch
    worker -> parent   epoch (epoch, skills), result (result), failure (key, reason, fail_kind), done (memory)
"""

import contextlib
import ctypes
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from taskgroup.datasets import Dataset, Split, load_dataset
from taskgroup.errors import StoreError, TrainingFailed
from taskgroup.execution.channel import Channel, Message
from taskgroup.execution.claims import own_claim
from taskgroup.execution.executor import (
    DISK_FULL,
    SUPERSEDED,
    Failure,
    OnEpoch,
    OnResult,
    TargetSkills,
)
from taskgroup.execution.results import (
    checkpoint_path,
    network_path,
    pending_content,
    pending_path,
    prediction_path,
)
from taskgroup.files import atomic_path, is_disk_full
from taskgroup.machine import resident_memory
from taskgroup.training import Checkpoint, EpochReport, Fit, GroupJob, GroupResult, fit_halves

OnFailure = Callable[[str, Failure], None]

# Values per row after the stem, up to which a second thread gains next to nothing: above every size of
# benchmarks/packing.py, all of which gain more by a second process.
_SMALL_VALUES = 1 << 16
_TORCH_THREADS = torch.get_num_threads()
# Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# The highest threshold that glibc accepts.
_MMAP_BYTES = 32 << 20
# More than the buffers of a training step, so that none of them goes back to the system.
_TRIM_BYTES = 1 << 30


@dataclass(frozen=True)
class WorkerSettings:
    """How jobs are trained, apart from what decides their results.

    Parameters
    ----------
    folder: the run folder.
    keep: store the networks as well.
    threads: CPU threads for networks that are not small; None: torch's default.
    owner: name of the process that appends the results to the ResultStore.
    checkpoint_seconds: seconds between two checkpoints of a network.
    """

    folder: Path
    keep: bool
    threads: int | None
    owner: str
    checkpoint_seconds: float


def is_small(job: GroupJob) -> bool:
    """Return whether a network is trained by one thread.

    Its operations are shorter than what it takes to share them between threads. It is trained by one thread wherever it
    is trained, alone or beside others, so that its result depends on its job alone.
    """
    model = job.model
    return model.backbone.n_points(model.grid) * model.backbone.width <= _SMALL_VALUES


def train_in_step(
    jobs: Sequence[GroupJob],
    settings: WorkerSettings,
    on_epoch: OnEpoch[str],
    on_result: OnResult,
    on_failure: OnFailure,
) -> None:
    """Train jobs in this process, an epoch of each in turn.

    A finished job goes to ``on_result`` when its files are on the disk, one that cannot be trained to ``on_failure``.
    An exception of ``on_epoch`` ends the training and leaves the checkpoints.
    """
    running = {job.key: _JobInTraining(job, settings) for job in jobs}
    epoch = 0
    try:
        while running:
            epoch += 1
            # A GPU computes the epochs of all jobs at the same time: each is begun before the first is waited for.
            _advance_all(running, on_result, on_failure)
            reports = _advance_all(running, on_result, on_failure)
            if not reports:
                continue
            skills = {key: dict(report.skills) for key, report in reports.items()}
            keys_that_go_on = on_epoch(epoch, skills)
            for key in list(running):
                if key not in keys_that_go_on:
                    running.pop(key).stop()
    finally:
        for job in running.values():
            job.close()


def _advance_all(
    running: dict[str, "_JobInTraining"], on_result: OnResult, on_failure: OnFailure
) -> dict[str, EpochReport]:
    """Advance every job by half an epoch and return the reports by key; jobs that are over leave ``running``."""
    reports = {}
    for key, job in list(running.items()):
        try:
            reports[key] = job.advance()
        except StopIteration as end:
            del running[key]
            if job.is_superseded():
                job.close()
                reason = "another process took this one for dead and has claimed its network"
                on_failure(key, Failure(SUPERSEDED, reason))
                continue
            try:
                result = job.store(end.value)
            except (OSError, SafetensorError) as error:
                if not is_disk_full(error):
                    raise
                job.close()
                on_failure(key, Failure(DISK_FULL, f"the disk is full: {error}"))
            else:
                on_result(result)
        except TrainingFailed as error:
            del running[key]
            on_failure(key, Failure(error.fail_kind, str(error)))
    return reports


class _JobInTraining:
    """One job between its first epoch and its result."""

    def __init__(self, job: GroupJob, settings: WorkerSettings) -> None:
        self._settings = settings
        self._threads = 1 if is_small(job) else settings.threads or _TORCH_THREADS
        path = checkpoint_path(settings.folder, job.key)
        self._checkpoint = Checkpoint(path, settings.checkpoint_seconds, strict=False)
        self._claim = own_claim(settings.folder, job.key, settings.owner)
        self._halves = fit_halves(*job_data(job), job, checkpoint=self._checkpoint)

    def advance(self) -> EpochReport | None:
        """Begin an epoch (None) or end it (its report). Raises StopIteration with the Fit; TrainingFailed."""
        torch.set_num_threads(self._threads)
        return next(self._halves)

    def is_superseded(self) -> bool:
        """Return whether the claim on this job, made before its training, was outbid by another process."""
        return self._claim is not None and not self._claim.is_current()

    def store(self, fit: Fit) -> GroupResult:
        """Write the files of a finished job and return its result."""
        store_fit(fit, self._settings)
        self._checkpoint.discard()
        return fit.result

    def stop(self) -> None:
        """End a job that somebody decided to stop: nobody will go on with it."""
        self.close()
        self._checkpoint.discard()

    def close(self) -> None:
        """Free what the training holds; the checkpoint stays."""
        self._halves.close()


def store_fit(fit: Fit, settings: WorkerSettings) -> None:
    """Write validation predictions, the network if asked for, and last the pending result, which vouches for both.

    All are first written beside their places; then one rename each puts them there. So a kill leaves either a result
    with its files, which ``ResultStore.recover`` takes, or no result.
    """
    key = fit.result.key
    predictions = np.asarray(fit.predictions, dtype=np.float32)
    # An ExitStack leaves its contexts in reverse order: what is entered first takes its place last.
    with contextlib.ExitStack() as files:
        pending = files.enter_context(atomic_path(pending_path(settings.folder, key)))
        if settings.keep:
            # Brings libraries that a worker takes a second to load and needs for nothing else.
            from taskgroup.export.network_file import write_network

            network = files.enter_context(atomic_path(network_path(settings.folder, key)))
            write_network(network, fit.network)
        prediction = files.enter_context(atomic_path(prediction_path(settings.folder, key)))
        with prediction.open("wb") as file:
            np.save(file, predictions, allow_pickle=False)
        content = pending_content(fit.result, settings.owner)
        pending.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def job_data(job: GroupJob) -> tuple[Dataset, Split]:
    """Return dataset and split of a job. Raises StoreError: the dataset is not the one that the job was made for."""
    split_settings = json.dumps(dict(job.split), sort_keys=True)
    dataset = _dataset(job.dataset, job.dataset_hash)
    return dataset, _split(job.dataset, job.dataset_hash, split_settings)


# A study has one dataset, a transfer from one to another has two.
@lru_cache(maxsize=2)
def _dataset(name: str, content_hash: str) -> Dataset:
    dataset = load_dataset(name)
    if dataset.hash != content_hash:
        raise StoreError(
            f"{name}: the dataset changed since the study began (hash {dataset.hash}, was {content_hash})"
        )
    return dataset


# Every validation fold is a split of its own.
@lru_cache(maxsize=16)
def _split(name: str, content_hash: str, split_settings: str) -> Split:
    settings = json.loads(split_settings)
    dataset = _dataset(name, content_hash)
    splits = dataset.splits(by=settings["by"], folds=settings["folds"], seed=settings["seed"])
    split = splits.split(
        test_fold=settings["test_fold"], validation_fold=settings["validation_fold"]
    )
    return split.with_train_share(settings.get("train_share", 1.0))


def serve(channel: Channel, folder: str, owner: str) -> None:
    """Train what the parent asks for until it closes the channel; runs in a process of its own."""
    _keep_freed_memory()
    while True:
        request = channel.receive()
        with channel.signs_of_life():
            _train_requested(channel, request, Path(folder), owner)
        channel.send("done", memory=resident_memory())


def _train_requested(channel: Channel, request: Message, folder: Path, owner: str) -> None:
    jobs = [GroupJob.from_dict(job) for job in request["jobs"]]
    settings = WorkerSettings(
        folder=folder,
        keep=request["keep"],
        threads=request["threads"],
        owner=owner,
        checkpoint_seconds=request["checkpoint_seconds"],
    )

    def ask_parent(epoch: int, skills: Mapping[str, TargetSkills]) -> Collection[str]:
        channel.send("epoch", epoch=epoch, skills=skills)
        return channel.receive()["keys"]

    def send_result(result: GroupResult) -> None:
        channel.send("result", result=result.to_dict())

    def send_failure(key: str, failure: Failure) -> None:
        channel.send("failure", key=key, fail_kind=failure.kind, reason=failure.reason)

    train_in_step(jobs, settings, ask_parent, send_result, send_failure)


def _keep_freed_memory() -> None:
    """Let the allocator keep what was freed: a training step frees and takes the same blocks over and over.

    By default glibc gives large blocks back, and the system clears every page again when it is touched, which at 32^3
    points takes a tenth of a step. Systems without ``mallopt`` are left as they are.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        allocator.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        allocator.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
