"""The contract of executors, and how they are found."""

from pathlib import Path

import pytest

from taskgroup.errors import ConfigError
from taskgroup.execution import InlineExecutor, ProcessExecutor, make_executor
from taskgroup.execution.testing import ExecutorConformance


class TestInline(ExecutorConformance):
    executor_class = InlineExecutor


class TestProcess(ExecutorConformance):
    executor_class = ProcessExecutor

    def worker_pids(self, executor: ProcessExecutor) -> list[int]:
        return executor.worker_pids


def test_an_unknown_executor_is_answered_with_the_nearest(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'process'"):
        make_executor("proces", tmp_path, None, "0")
