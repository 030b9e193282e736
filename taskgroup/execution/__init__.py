"""Who trains: executors, worker processes and the cache of everything trained. Knows nothing of Optuna."""

from taskgroup.execution.executors import Executor
from taskgroup.execution.results import ResultStore

__all__ = ["Executor", "ResultStore"]
