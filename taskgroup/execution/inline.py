"""InlineExecutor: trains in this process. Simplest to debug; whatever crashes takes the study along."""

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence

from taskgroup.execution.channel import process_name
from taskgroup.execution.executor import Executor, Failure, OnEpoch, OnResult, TargetSkills
from taskgroup.execution.worker import WorkerSettings, train_in_step
from taskgroup.training import GroupJob


class InlineExecutor(Executor):
    """Trains in this process."""

    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch[str],
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        """Train jobs in step; see ``Executor.train``. The time limit is looked at after every epoch."""
        started = time.monotonic()
        failures: dict[str, Failure] = {}

        def on_failure(key: str, failure: Failure) -> None:
            failures[key] = failure

        def on_epoch_in_time(epoch: int, skills: Mapping[str, TargetSkills]) -> Collection[str]:
            if time_limit is not None and time.monotonic() - started >= time_limit:
                late = Failure("time_out", f"longer than {time_limit:g} s")
                failures.update(dict.fromkeys(skills, late))
                raise _TimeOut
            return on_epoch(epoch, skills)

        settings = WorkerSettings(
            folder=self.folder,
            keep=keep,
            threads=self.threads,
            owner=process_name(),
            checkpoint_seconds=self.checkpoint_seconds,
        )
        with contextlib.suppress(_TimeOut):
            train_in_step(jobs, settings, on_epoch_in_time, on_result, on_failure)
        return failures


class _TimeOut(Exception):
    """Leaves the training at the time limit, so that checkpoints stay as they do when a process is killed."""
