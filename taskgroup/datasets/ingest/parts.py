"""Parts of a store made in processes, or checked without writing."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from taskgroup.datasets.ingest.rows import Made, make_rows
from taskgroup.datasets.ingest.sources import Source
from taskgroup.datasets.store import Refused, StoreSettings, write_part
from taskgroup.errors import TaskgroupError

T = TypeVar("T")


@dataclass(frozen=True)
class PartJob:
    """All that a process needs to make one part."""

    path: Path
    part: int
    sources: tuple[Source, ...]
    settings: StoreSettings


@dataclass(frozen=True)
class PartDone:
    """Outcome of one part: how many sources, what was refused, notes by row id, and sources it had no space for."""

    n_sources: int
    refused: tuple[Refused, ...]
    notes: dict[str, str]
    left: tuple[Source, ...]


def write_job(job: PartJob) -> PartDone:
    """Make and write one part."""
    made = make_rows(job.sources, job.settings)
    write_part(job.path, job.part, made.rows, made.refused, made.notes)
    return _done(job, made)


def check_job(job: PartJob) -> PartDone:
    """Make one part and write nothing."""
    return _done(job, make_rows(job.sources, job.settings))


def _done(job: PartJob, made: Made) -> PartDone:
    left = job.sources[made.n_sources :]
    return PartDone(made.n_sources, tuple(made.refused), made.notes, left)


def run_jobs(work: Callable[[PartJob], T], jobs: Sequence[PartJob], workers: int) -> Iterator[T]:
    """Do the jobs in processes; yields what each gives as it is done."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    # spawn: a forked child would inherit the threads of BLAS and zarr in an unknown state
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        # Children inherit it: Ctrl-C is for the parent, and what is under way comes to its end.
        with _interrupts_ignored():
            futures = [pool.submit(work, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise TaskgroupError(
            "a process died while it read densities; what is done is kept, run again to go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    # only the main thread may set signals
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
