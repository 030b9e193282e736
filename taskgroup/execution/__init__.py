"""Who trains: executors, worker processes and the cache of everything trained. Knows nothing of Optuna."""

from pathlib import Path

from taskgroup.errors import ConfigError
from taskgroup.execution.executor import Executor, Failure, OnEpoch, OnResult
from taskgroup.execution.inline import InlineExecutor
from taskgroup.execution.process import ProcessExecutor
from taskgroup.execution.results import ResultStore
from taskgroup.registry import Registry

EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    "taskgroup.executors",
    {"inline": InlineExecutor, "process": ProcessExecutor},
    ConfigError,
)


def make_executor(kind: str, folder: Path, threads: int | None, name: str) -> Executor:
    """Return a new executor of a registered kind. Raises ConfigError: an unknown kind."""
    return EXECUTORS.find(kind)(folder, threads, name)


__all__ = [
    "EXECUTORS",
    "Executor",
    "Failure",
    "InlineExecutor",
    "OnEpoch",
    "OnResult",
    "ProcessExecutor",
    "ResultStore",
    "make_executor",
]
