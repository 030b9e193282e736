"""Where networks are trained: in this process (``inline``) or in a warm worker process (``process``).

The groups of a trial train in step, an epoch of each in turn, so that after every epoch they can be compared and some
be stopped. What happens to a worker (a signal, running out of memory or time) becomes a Failure; the study goes on.

A new executor is a subclass of Executor registered under the entry point group ``taskgroup.executors``.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.execution.worker import train_in_step
from taskgroup.training import GroupJob, GroupResult

_WORKER = "import sys; from taskgroup.execution.worker import serve; serve(sys.argv[1])"
Skills = Mapping[str, Mapping[str, float]]
OnEpoch = Callable[[int, Skills], Collection[str]]
OnResult = Callable[[GroupResult], None]


@dataclass(frozen=True)
class Failure:
    """Why a group was not trained: ``kind`` is out_of_memory, nan, time_out, signal or error."""

    kind: str
    reason: str


class Executor(ABC):
    """Trains the groups of one trial.

    Parameters
    ----------
    folder: the run folder; predictions and networks are written below it.
    threads: CPU threads the training may use; None leaves torch's default.
    """

    at_once = 1  # networks that train at the same time, where they are small enough or share a GPU

    def __init__(self, folder: Path, threads: int | None = None, name: str = "0") -> None:
        self.folder = folder
        self.threads = threads
        self.name = name

    @abstractmethod
    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch,
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        """Train jobs in step.

        ``on_epoch(epoch, skills by key)`` answers which keys go on; ``on_result`` gets each group once it is done;
        ``keep`` stores the networks. Returns the failures by key; a group that was stopped is none.
        """

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Free what is held."""


class InlineExecutor(Executor):
    """Trains in this process: simplest to debug; what crashes takes the study along."""

    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch,
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        deadline = time.monotonic() + time_limit if time_limit else None
        failures: dict[str, Failure] = {}

        def in_time(epoch: int, skills: Skills) -> Collection[str]:
            if deadline is None or time.monotonic() < deadline:
                return on_epoch(epoch, skills)
            for key in skills:
                on_failure(key, "time_out", f"longer than {time_limit:g} s")
            return ()

        def on_failure(key: str, kind: str, reason: str) -> None:
            failures[key] = Failure(kind, reason)

        train_in_step(
            jobs, self.folder, in_time, on_result, on_failure, keep=keep, threads=self.threads
        )
        return failures


class ProcessExecutor(Executor):
    """Trains in a worker process that stays warm between trials; a dead worker is replaced at the next call."""

    _process: subprocess.Popen | None = None

    @property
    def at_once(self) -> int:
        """One a thread."""
        return self.threads or available_cores()

    @property
    def _number(self) -> int:
        """The number that the name ends with, of which several GPUs are taken in turns."""
        return int(re.search(r"\d*$", self.name).group() or 0)

    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch,
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        process = self._worker()
        deadline = time.monotonic() + time_limit if time_limit else None
        open_keys = [job.key for job in jobs]
        failures: dict[str, Failure] = {}
        finished = False
        try:
            self._send(
                {"jobs": [job.to_dict() for job in jobs], "keep": keep, "threads": self.at_once}
            )
            while True:
                message = self._receive(deadline)
                if message is None:
                    return failures | dict.fromkeys(open_keys, self._post_mortem())
                kind = message["type"]
                if kind == "epoch":
                    open_keys = list(on_epoch(message["epoch"], message["skills"]))
                    self._send({"go": open_keys})
                elif kind == "result":
                    result = GroupResult.from_dict(message["result"])
                    open_keys.remove(result.key)
                    on_result(result)
                elif kind == "failure":
                    open_keys.remove(message["key"])
                    failures[message["key"]] = Failure(message["kind"], message["reason"])
                else:
                    finished = True
                    return failures
        except BrokenPipeError:
            return failures | dict.fromkeys(open_keys, self._post_mortem())
        except TimeoutError:
            return failures | dict.fromkeys(
                open_keys, Failure("time_out", f"longer than {time_limit:g} s")
            )
        finally:
            if not finished and process.poll() is None:
                self._kill()

    def close(self) -> None:
        if self._process is not None:
            self._kill()

    def _worker(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            self._close_pipes()
            self._log = self.folder / "log" / f"worker-{self.name}.log"
            self._log.parent.mkdir(parents=True, exist_ok=True)
            environment = dict(os.environ)
            if self.threads:
                environment["OMP_NUM_THREADS"] = str(self.threads)
            environment.setdefault(
                "OMP_WAIT_POLICY", "passive"
            )  # spinning threads starve whoever shares the cores
            if (gpus := torch.cuda.device_count()) > 1:
                environment.setdefault("TASKGROUP_DEVICE", f"cuda:{self._number % gpus}")
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _WORKER, str(self.folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches the study alone, which then ends its workers
                )
            self._buffer = b""
        return self._process

    def _send(self, message: Mapping[str, Any]) -> None:
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self, deadline: float | None) -> dict[str, Any] | None:
        """The next message; None when the worker died. Raises TimeoutError past the deadline."""
        pipe = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not selector.select(left):
                    raise TimeoutError
                block = os.read(pipe.fileno(), 1 << 16)
                if not block:
                    return None
                self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _post_mortem(self) -> Failure:
        """What became of a worker that closed its end of the pipe."""
        code = self._process.wait(timeout=60)
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", often the system running out of memory" if name == "SIGKILL" else ""
            return Failure("signal", f"worker ended by {name}{hint}")
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return Failure("error", lines[-1][:500] if lines else f"worker ended with code {code}")

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        if self._process is not None:
            self._process.stdout.close()
            with contextlib.suppress(BrokenPipeError):  # what was not yet sent has no reader
                self._process.stdin.close()
            self._process = None


def available_cores() -> int:
    """Cores this process may use: of a cluster's node maybe not all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


EXECUTORS: dict[str, type[Executor]] = {"inline": InlineExecutor, "process": ProcessExecutor}


def make_executor(kind: str, folder: Path, threads: int | None, name: str) -> Executor:
    """An executor by name, ours or a plug-in's. Raises ConfigError for an unknown name."""
    if kind not in EXECUTORS:
        EXECUTORS.update(
            {point.name: point.load() for point in entry_points(group="taskgroup.executors")}
        )
    if kind not in EXECUTORS:
        raise ConfigError(f"executor.kind: no executor '{kind}'; {did_you_mean(kind, EXECUTORS)}")
    return EXECUTORS[kind](folder, threads, name)
