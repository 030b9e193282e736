"""Several networks at once: processes beside the one that leads a trial.

On a CPU, small networks of one thread each: a small network hardly gains by a second thread, its operations are shorter
than what it takes to share them; two networks in two processes do (``benchmarks/packing.py``). Threads of one process
would share Python's lock and the random state; grouped convolutions were no faster than one network after the other
(docs/measurements/speed.md). A small network is trained by one thread wherever it is trained, alone or beside others, so that
its result depends on its job alone.

On a GPU one process trains all networks of a trial at once, see ``taskgroup.training.cuda_graph``: processes would take
turns there.

Where memory ends, half as many are tried from then on; the caller trains again alone what failed.
"""

import contextlib
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskgroup.training import GroupJob, GroupResult, pick_device

_SERVE = "import sys; from taskgroup.execution.worker import serve; serve(sys.argv[1])"
_SMALL = (
    1 << 16
)  # values a row after the stem: above every size of benchmarks/packing.py, all of which gain
_PROCESS_BYTES = (
    1 << 30
)  # least memory to leave for a process: libraries, and fields not yet prepared

Skills = Mapping[str, Mapping[str, float]]


def is_small(job: GroupJob) -> bool:
    """Whether a network is trained by one thread."""
    model = job.model
    return (model.grid // model.patch) ** 3 * model.width <= _SMALL


class PoolWorker:
    """A process that trains some of a trial's jobs, an epoch at a time; see ``taskgroup.execution.worker.serve``."""

    def __init__(self, folder: Path) -> None:
        self.keys: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
            bufsize=1,
        )

    @property
    def alive(self) -> bool:
        """It can take jobs."""
        return self._process.poll() is None

    def begin(self, jobs: Sequence[GroupJob], keep: bool) -> None:
        """Start on jobs; their first epoch runs while the caller does something else."""
        self.keys = [job.key for job in jobs]
        self._send({"jobs": [job.to_dict() for job in jobs], "keep": keep, "threads": 1})

    def epoch(
        self, on_result: Callable[[GroupResult], None], on_failure: Callable[[str, str, str], None]
    ) -> Skills:
        """Skills by key of the epoch that was begun, empty when all jobs are over; ``keys`` are those still open."""
        for line in self._process.stdout:
            message = json.loads(line)
            if message["type"] == "epoch":
                return message["skills"]
            if message["type"] == "result":
                result = GroupResult.from_dict(message["result"])
                self.keys.remove(result.key)
                on_result(result)
            elif message["type"] == "failure":
                self.keys.remove(message["key"])
                on_failure(message["key"], message["kind"], message["reason"])
            else:
                return {}
        code = self._process.wait()
        for key in self.keys:
            on_failure(
                key,
                "signal" if code < 0 else "error",
                f"a process beside the worker ended with code {code}",
            )
        self.keys = []
        return {}

    def answer(self, go: Collection[str]) -> None:
        """Let it begin the next epoch of these keys, as far as they are its own, or stop."""
        self.keys = [key for key in self.keys if key in go]
        self._send({"go": self.keys})
        if not self.keys:
            while (
                self.alive
                and (line := self._process.stdout.readline())
                and json.loads(line)["type"] != "done"
            ):
                pass

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # a dead process is noticed where it is read
            self._process.stdin.write(json.dumps(message) + "\n")


class WorkerPool:
    """The processes beside a worker: started when first needed, kept warm, replaced when dead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lanes: list[PoolWorker] = []
        self._most = math.inf  # processes, the worker among them
        self._packed = 1

    def share(
        self, jobs: Sequence[GroupJob], keep: bool, threads: int
    ) -> tuple[list[GroupJob], list[PoolWorker]]:
        """Hand jobs out, so that ``threads`` processes train on a CPU; gives the caller's own jobs and the lanes."""
        if pick_device(None).type != "cpu":
            return list(jobs), []
        shared = [job for job in jobs if is_small(job)]
        most = min(len(shared), self._most, threads)
        for lane in [lane for lane in self._lanes if not lane.alive]:
            lane.close()
            self._lanes.remove(lane)
        count = int(min(most - 1, len(self._lanes) + _room_for_processes()))
        for _ in range(count - len(self._lanes)):
            self._lanes.append(PoolWorker(self._folder))
        lanes = self._lanes[: max(0, count)]
        self._packed = len(lanes) + 1
        if not lanes:
            return list(jobs), []
        parts = [shared[i :: len(lanes) + 1] for i in range(len(lanes) + 1)]
        for lane, part in zip(lanes, parts[1:], strict=True):
            lane.begin(part, keep)
        return parts[0] + [job for job in jobs if job not in shared], lanes

    def back_off(self, kind: str) -> None:
        """Pack half as many from now on, where memory ran out."""
        if kind == "out_of_memory" and self._packed > 1:
            self._most = self._packed // 2

    def close(self) -> None:
        """End all processes."""
        for lane in self._lanes:
            lane.close()
        self._lanes = []


def _room_for_processes() -> float:
    """Processes the memory still holds, each as large as this one has been."""
    return _free_bytes() // max(
        _PROCESS_BYTES, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


def _free_bytes() -> float:
    """Memory that processes may still take; unknown where the system has no /proc."""
    with contextlib.suppress(FileNotFoundError), open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return float("inf")
