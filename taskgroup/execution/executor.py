"""Executor, the base class of everything that trains the groups of a trial, and the words it shares with its callers.

One decision travels through this room: who goes on training after an epoch? It has one shape, OnEpoch, all the way:

    search.loop     OnEpoch[Group]   asks the pruner
    Evaluator       OnEpoch[str]     turns job keys into groups, and the groups that go on into job keys
    Executor        OnEpoch[str]     asks once per epoch of all jobs, wherever they are trained
    worker          OnEpoch[str]     asks the parent process over the channel

A new executor is a subclass of Executor, registered under the entry point group ``taskgroup.executors`` and tested by
a subclass of ``taskgroup.execution.testing.ExecutorConformance``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from taskgroup.training import GroupJob, GroupResult

TargetSkills = Mapping[str, float | None]  # skill by target; None where it does not exist
OnResult = Callable[[GroupResult], None]
K = TypeVar("K")

DISK_FULL = "disk_full"
"""Kind of a failure after which nothing more can be stored: the study ends and can be resumed."""

SUPERSEDED = "superseded"
"""Kind of a failure that is none: this process was taken for dead, and another trains or has trained the network."""


class OnEpoch(Protocol[K]):
    """Called after every epoch; answers who goes on.

    ``epoch`` counts from 1. ``skills`` holds, for everybody still in training, the skill each target has now. Whoever
    is not in the answer is stopped for good.
    """

    def __call__(self, epoch: int, skills: Mapping[K, TargetSkills], /) -> Collection[K]:
        """Return those that go on."""


def all_go_on(epoch: int, skills: Mapping[K, TargetSkills]) -> Collection[K]:
    """Stop nobody: the OnEpoch of callers that do not prune."""
    return list(skills)


@dataclass(frozen=True)
class Failure:
    """Reason why a group was not trained: ``kind`` is out_of_memory, nan, time_out, signal, disk_full or error.

    ``log`` is the file that its process printed to, below the run folder, where it had one.
    """

    kind: str
    reason: str
    log: str = field(default="", compare=False)


class Executor(ABC):
    """Trains the groups of one trial.

    Parameters
    ----------
    folder: the run folder; predictions, networks and checkpoints are written below it.
    threads: CPU threads the training may use; None leaves the choice to the executor.
    name: distinguishes the executors of a run, in file names; where several GPUs are there, the number it ends with
        picks one.
    """

    # Networks that train at the same time, where they are small enough or share a GPU.
    at_once = 1
    # Seconds between two checkpoints of a network in training.
    checkpoint_seconds = 60.0

    def __init__(self, folder: Path, threads: int | None = None, name: str = "0") -> None:
        self.folder = folder
        self.threads = threads
        self.name = name

    @abstractmethod
    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch[str],
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        """Train jobs in step, an epoch of each before the next epoch of any.

        Parameters
        ----------
        jobs: what to train.
        on_epoch: called once per epoch with the skills of all jobs in training, by key; a key that it leaves out is
            stopped.
        on_result: called once per finished job, when the files of its result are on the disk.
        keep: store the networks as well.
        time_limit: seconds after which jobs that are still in training fail with ``time_out``.

        Returns the failures by key. A job that was stopped has neither a result nor a failure.
        """

    def close(self) -> None:  # noqa: B027 - most executors hold nothing
        """Free what is held; may be called twice."""
