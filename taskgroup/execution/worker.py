"""What trains the groups of a trial, and the process that does it on request.

``serve`` reads requests from standard input and answers on standard output, a JSON object a line: nothing is pickled,
and the process ends by itself when its parent is gone.
"""

import ctypes
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from taskgroup.datasets import Dataset, Split, load_dataset
from taskgroup.errors import StoreError, TrainingFailed
from taskgroup.execution.worker_pool import WorkerPool, is_small
from taskgroup.export.network_file import write_network
from taskgroup.training import Fit, GroupJob, GroupResult, fit_halves

PROBE_EVERY = 4  # steps; one joint run a study, so probes may be dear

OnResult = Callable[[GroupResult], None]
OnFailure = Callable[[str, str, str], None]  # key, kind, reason

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def train_in_step(
    jobs: Sequence[GroupJob],
    folder: Path,
    on_epoch: Callable[[int, Mapping[str, Mapping[str, float]]], Collection[str]],
    on_result: OnResult,
    on_failure: OnFailure,
    *,
    keep: bool = False,
    threads: int | None = None,
    beside: WorkerPool | None = None,
) -> None:
    """Train jobs an epoch of each in turn; with ``beside``, some at the same time in processes of one thread.

    On a GPU the epochs of all are computed at the same time: each is begun before the first is waited for.

    ``on_epoch(epoch, skills by key)`` answers which keys go on. Finished groups go to ``on_result`` with their
    predictions on disk (and their network, if ``keep``); groups that cannot be trained go to ``on_failure``.
    """
    mine, lanes = jobs, []
    if beside is not None:
        mine, lanes = beside.share(jobs, keep, threads or torch.get_num_threads())

    def failed(key: str, kind: str, reason: str) -> None:
        if beside is not None:
            beside.back_off(kind)
        on_failure(key, kind, reason)

    threads_of = {job.key: 1 if beside is not None and is_small(job) else threads for job in mine}
    running = {job.key: fit_halves(*_data(job), job) for job in mine}
    epoch = 0
    while running or lanes:
        epoch += 1
        skills: dict[str, Mapping[str, float]] = {}
        for half in ("begin", "report"):
            for key, halves in list(running.items()):
                if threads_of[key]:
                    torch.set_num_threads(threads_of[key])
                try:
                    report = next(halves)
                except StopIteration as end:
                    del running[key]
                    on_result(_stored(end.value, folder, keep))
                except TrainingFailed as error:
                    del running[key]
                    failed(key, error.fail_kind, str(error))
                else:
                    if half == "report":
                        skills[key] = dict(report.skills)
        for lane in lanes:
            skills |= lane.epoch(on_result, failed)
        lanes = [lane for lane in lanes if lane.keys]
        go = on_epoch(epoch, skills) if skills else ()
        for key in [key for key in running if key not in go]:
            running.pop(key).close()
        for lane in lanes:
            lane.answer(go)
        lanes = [lane for lane in lanes if lane.keys]


def network_path(folder: Path, key: str) -> Path:
    """Where the network of a result lies when it was kept."""
    return folder / "networks" / f"{key}.safetensors"


def prediction_path(folder: Path, key: str) -> Path:
    """Where a result's validation predictions lie: float32 [validation rows, targets], natural units."""
    return folder / "predictions" / f"{key}.npy"


@lru_cache(maxsize=2)
def _dataset(name: str, content_hash: str) -> Dataset:
    dataset = load_dataset(name)
    if dataset.hash != content_hash:
        raise StoreError(
            f"{name}: the dataset changed since the study began (hash {dataset.hash}, was {content_hash})"
        )
    return dataset


@lru_cache(maxsize=16)
def _split(name: str, content_hash: str, settings: str) -> Split:
    chosen = json.loads(settings)
    splits = _dataset(name, content_hash).splits(
        by=chosen["by"], folds=chosen["folds"], seed=chosen["seed"]
    )
    split = splits.split(test_fold=chosen["test_fold"], validation_fold=chosen["validation_fold"])
    return split.with_train_share(chosen.get("train_share", 1.0))


def _data(job: GroupJob) -> tuple[Dataset, Split]:
    settings = json.dumps(dict(job.split), sort_keys=True)
    return _dataset(job.dataset, job.dataset_hash), _split(job.dataset, job.dataset_hash, settings)


def _stored(fit: Fit, folder: Path, keep: bool) -> GroupResult:
    key = fit.result.key
    path = prediction_path(folder, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{uuid4().hex[:8]}.part")  # another machine may train the same
    with partial.open("wb") as file:
        np.save(file, np.asarray(fit.predictions, dtype=np.float32), allow_pickle=False)
    os.replace(partial, path)
    if keep:
        path = network_path(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid4().hex[:8]}.part")
        write_network(partial, fit.network)
        os.replace(partial, path)
    return fit.result


def measure() -> None:
    """Answer one request on standard input: train its job and write the affinity measured meanwhile to its path."""
    from taskgroup.training.affinity_hooks import gradient_affinity

    request = json.load(sys.stdin)
    job, name, path = GroupJob.from_dict(request["job"]), request["measure"], Path(request["path"])
    affinity = gradient_affinity(*_data(job), job, name, every=PROBE_EVERY)
    partial = path.with_suffix(f".{uuid4().hex[:8]}.part")
    partial.write_text(affinity.to_json(), encoding="utf-8")
    os.replace(partial, path)


def _keep_freed_memory() -> None:
    """Let the allocator keep what was freed: a training step frees and takes the same blocks over and over.

    By default glibc gives large blocks back, and the system clears every page again when it is touched: at 32^3 points
    a tenth of a step. Elsewhere nothing happens.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        allocator.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most it takes
        allocator.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _end_at_once(*error: Any) -> None:
    """Print an error nobody caught and end: threads of libraries may abort an interpreter that is taken down.

    That would hide the error behind a signal.
    """
    traceback.print_exception(*error)
    sys.stderr.flush()
    os._exit(1)


def serve(run: str) -> None:
    """Answer requests on standard input until it ends. What other code prints goes to standard error."""
    logging.basicConfig(level=logging.WARNING)
    sys.excepthook = _end_at_once
    _keep_freed_memory()
    folder = Path(run)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(kind: str, **content: Any) -> None:
        answers.write(json.dumps({"type": kind, **content}) + "\n")

    def on_epoch(epoch: int, skills: Mapping[str, Mapping[str, float]]) -> list[str]:
        answer("epoch", epoch=epoch, skills=skills)
        return json.loads(sys.stdin.readline() or '{"go": []}')["go"]

    beside = WorkerPool(folder)
    for line in sys.stdin:
        request = json.loads(line)
        train_in_step(
            [GroupJob.from_dict(job) for job in request["jobs"]],
            folder,
            on_epoch,
            lambda result: answer("result", result=result.to_dict()),
            lambda key, kind, reason: answer("failure", key=key, kind=kind, reason=reason),
            keep=request["keep"],
            threads=request["threads"],
            beside=beside,
        )
        answer("done")
    beside.close()
