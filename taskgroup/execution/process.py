"""ProcessExecutor: trains in warm worker processes, all of them owned by this process.

On a CPU several small networks train at the same time, one thread and one process each. A second thread hardly speeds
a small network up; a second network in a second process doubles what is trained (``benchmarks/packing.py``). Threads of
one process would share Python's lock and the random state. Large networks get all threads, one after the other, in the
first process. On a GPU one process trains all networks of a trial at the same time (``taskgroup.training.cuda_graph``):
processes would take turns there.

What happens to a worker (a signal, running out of memory or time) becomes a Failure of the jobs it had; the others go
on. Where memory runs out, half as many processes are used from then on, and the caller trains alone what failed.
"""

import os
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from taskgroup.execution.channel import (
    SILENCE_SECONDS,
    Message,
    WorkerProcess,
    next_messages,
    process_name,
)
from taskgroup.execution.executor import Executor, Failure, OnEpoch, OnResult, TargetSkills
from taskgroup.execution.worker import is_small
from taskgroup.machine import available_cores, free_memory
from taskgroup.training import GroupJob, GroupResult, pick_device

_FUNCTION = "taskgroup.execution.worker:serve"
# Least memory to leave for a process: its libraries, and fields that are not yet prepared.
_PROCESS_BYTES = 1 << 30


class ProcessExecutor(Executor):
    """Trains in worker processes that stay warm between trials; dead ones are replaced at the next call."""

    # Seconds without a sign of life after which a worker is taken for hung.
    silence_limit = SILENCE_SECONDS

    def __init__(self, folder: Path, threads: int | None = None, name: str = "0") -> None:
        super().__init__(folder, threads, name)
        self._pool = WorkerPool(folder, name, threads)

    @property
    def at_once(self) -> int:
        """One network per thread."""
        return self.threads or available_cores()

    @property
    def worker_pids(self) -> list[int]:
        """Numbers of the worker processes that live."""
        return [worker.pid for worker in self._pool.workers if worker.alive]

    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch[str],
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        """Train jobs in step; see ``Executor.train``."""
        deadline = None if time_limit is None else time.monotonic() + time_limit
        training = _PackedTraining(self._pool, on_result)
        try:
            for worker, share in self._pool.share(jobs, self.at_once):
                worker.silence_limit = self.silence_limit
                options = {
                    "keep": keep,
                    "threads": self._pool.threads_of(worker, self.at_once),
                    "checkpoint_seconds": self.checkpoint_seconds,
                }
                training.begin(worker, share, options)
            epoch = 0
            while training.goes_on:
                epoch += 1
                skills = training.gather_epoch(deadline)
                if skills:
                    training.answer(on_epoch(epoch, skills))
        except TimeoutError:
            training.fail_all(Failure("time_out", f"longer than {time_limit:g} s"))
        finally:
            training.end()
        return training.failures

    def close(self) -> None:
        """End all worker processes."""
        self._pool.close()


class _PackedTraining:
    """One call of ``train``: the workers that take part, the jobs each has in training, and what failed."""

    def __init__(self, pool: "WorkerPool", on_result: OnResult) -> None:
        self.failures: dict[str, Failure] = {}
        self._pool = pool
        self._on_result = on_result
        self._open_keys: dict[WorkerProcess, set[str]] = {}

    @property
    def goes_on(self) -> bool:
        """Whether a worker is still busy with this call."""
        return bool(self._open_keys)

    def begin(
        self, worker: WorkerProcess, jobs: Sequence[GroupJob], options: dict[str, float | None]
    ) -> None:
        """Let a worker begin its share of the jobs."""
        self._open_keys[worker] = {job.key for job in jobs}
        worker.send("train", jobs=[job.to_dict() for job in jobs], **options)

    def gather_epoch(self, deadline: float | None) -> dict[str, TargetSkills]:
        """Wait until every busy worker has ended its epoch, and return the skills of all their jobs.

        Results are handed on as they arrive. Raises TimeoutError past the deadline.
        """
        skills: dict[str, TargetSkills] = {}
        waited_for = set(self._open_keys)
        while waited_for:
            for worker, message in next_messages(list(waited_for), deadline):
                if message is not None and message["kind"] in ("result", "failure"):
                    self._take_ended_job(worker, message)
                    continue
                waited_for.remove(worker)
                if message is None:
                    self._take_dead_worker(worker)
                elif message["kind"] == "epoch":
                    skills.update(message["skills"])
                else:
                    del self._open_keys[worker]
                    self._pool.learn_memory(message["memory"])
        return skills

    def answer(self, keys_that_go_on: Collection[str]) -> None:
        """Let every worker begin the next epoch of its jobs that go on."""
        for worker, keys in self._open_keys.items():
            keys.intersection_update(keys_that_go_on)
            worker.send("go_on", keys=sorted(keys))

    def fail_all(self, failure: Failure) -> None:
        """Let all jobs that are still in training fail."""
        for keys in self._open_keys.values():
            self.failures.update(dict.fromkeys(keys, failure))

    def end(self) -> None:
        """End the workers that are still busy, after a time-out or an exception."""
        for worker in self._open_keys:
            worker.close()
        self._open_keys.clear()

    def _take_ended_job(self, worker: WorkerProcess, message: Message) -> None:
        if message["kind"] == "result":
            result = GroupResult.from_dict(message["result"])
            self._open_keys[worker].remove(result.key)
            self._on_result(result)
            return
        self._open_keys[worker].remove(message["key"])
        failure = Failure(message["fail_kind"], message["reason"])
        self._fail(worker, [message["key"]], failure)

    def _take_dead_worker(self, worker: WorkerProcess) -> None:
        keys = self._open_keys.pop(worker)
        self._fail(worker, sorted(keys), worker.post_mortem())

    def _fail(self, worker: WorkerProcess, keys: Sequence[str], failure: Failure) -> None:
        failure = replace(failure, log=f"log/{worker.log.name}")
        self.failures.update(dict.fromkeys(keys, failure))
        self._pool.back_off(failure)


class WorkerPool:
    """Worker processes: started when first needed, kept warm, replaced when dead.

    Parameters
    ----------
    folder: the run folder; what the processes print goes to ``log/`` in it.
    name: of the executor, for the names of the log files and the choice of a GPU.
    threads: CPU threads of the first process; the others have one.
    """

    def __init__(self, folder: Path, name: str, threads: int | None) -> None:
        self.workers: list[WorkerProcess] = []
        self._folder = folder
        self._name = name
        self._threads = threads
        self._most_processes: int | None = None
        self._processes_used = 1
        self._largest_process = _PROCESS_BYTES

    def share(
        self, jobs: Sequence[GroupJob], threads: int
    ) -> list[tuple[WorkerProcess, list[GroupJob]]]:
        """Deal jobs out to running workers, so that at most ``threads`` processes train."""
        small = [job for job in jobs if is_small(job)]
        large = [job for job in jobs if not is_small(job)]
        count = self._process_count(len(small), threads)
        workers = self._running(count)
        self._processes_used = count
        if count == 1:
            return [(workers[0], list(jobs))]
        shares = [small[number::count] for number in range(count)]
        shares[0] += large
        return list(zip(workers, shares, strict=True))

    def threads_of(self, worker: WorkerProcess, threads: int) -> int:
        """Return the threads that a worker may use for large networks: only the first one gets any."""
        return threads if worker is self.workers[0] else 1

    def learn_memory(self, size: int) -> None:
        """Remember how many bytes a process takes."""
        self._largest_process = max(self._largest_process, size)

    def back_off(self, failure: Failure) -> None:
        """Use half as many processes from now on, where memory ran out."""
        if failure.kind == "out_of_memory" and self._processes_used > 1:
            self._most_processes = self._processes_used // 2

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def _process_count(self, small_jobs: int, threads: int) -> int:
        if pick_device(None).type != "cpu":
            return 1
        count = min(small_jobs, threads)
        if self._most_processes is not None:
            count = min(count, self._most_processes)
        running = sum(worker.alive for worker in self.workers)
        room = free_memory() // self._largest_process
        return max(1, min(count, running + room))

    def _running(self, count: int) -> list[WorkerProcess]:
        """Return that many running workers, the first ones of the pool."""
        for number in range(count):
            if number == len(self.workers):
                self.workers.append(self._new_worker(number))
            worker = self.workers[number]
            if not worker.alive:
                worker.close()
                worker.start()
        return self.workers[:count]

    def _new_worker(self, number: int) -> WorkerProcess:
        # Spinning threads would starve whoever shares the cores.
        environment = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
        threads = self._threads if number == 0 else 1
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        gpus = torch.cuda.device_count()
        if gpus > 1 and "TASKGROUP_DEVICE" not in os.environ:
            environment["TASKGROUP_DEVICE"] = f"cuda:{_trailing_number(self._name) % gpus}"
        log_name = self._name if number == 0 else f"{self._name}-{number}"
        return WorkerProcess(
            _FUNCTION,
            [str(self._folder), process_name()],
            log=self._folder / "log" / f"worker-{log_name}.log",
            environment=environment,
        )


def _trailing_number(name: str) -> int:
    """Return the number that a name ends with, by which several GPUs are taken in turns; 0 where it ends with none."""
    digits = re.search(r"\d*$", name).group()
    return int(digits or 0)
