"""Contract of an executor: subclass ExecutorConformance, name the class, and let pytest run it.

    class TestMine(ExecutorConformance):
        executor_class = MyExecutor

All tests share one executor, as a study does. Those that kill, stop or starve worker processes are skipped where
``worker_pids`` names none.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from taskgroup.datasets import Dataset, Target, TargetTable, write_store
from taskgroup.execution.executor import Executor, Failure, OnEpoch, all_go_on
from taskgroup.execution.results import network_path, prediction_path
from taskgroup.execution.worker import job_data
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, GroupResult, TrainConfig, fit

_ROWS = 40
_GRID = 8
# Fast, and small enough for one thread.
_SMALL_MODEL = {"backbone": "descriptors", "widths": [], "fields": ["density"], "head_width": 4}
# Weights and features take hundreds of MB.
_HUNGRY_MODEL = {"grid": _GRID, "patch": 1, "width": 512, "stages": 2, "blocks": 4}
_SPLIT = {"by": "formula", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
# More epochs than any test waits for.
_ENDLESS = 9_000
# Twice what a test may take whose time limit is half a second, on a busy machine.
_LATE_SECONDS = 20.0

MakeJob = Callable[..., GroupJob]


def write_small_store(path: Path) -> Dataset:
    """Write a store of random densities whose mean and spread are two of three targets, and return its dataset."""
    random = np.random.default_rng(0)
    level = random.uniform(0.5, 2, _ROWS)
    spread = random.uniform(0.1, 0.5, _ROWS)
    noise = random.uniform(-1, 1, (_ROWS, 1, _GRID, _GRID, _GRID))
    densities = level[:, None, None, None, None] * (1 + spread[:, None, None, None, None] * noise)
    values = np.stack([level, spread, random.normal(size=_ROWS)], axis=1)
    specs = tuple(Target(name) for name in ("level", "spread", "noise"))
    ids = tuple(f"row{number:02d}" for number in range(_ROWS))
    formulas = tuple(f"El{number}" for number in range(_ROWS))
    lattices = np.broadcast_to(4 * np.eye(3), (_ROWS, 3, 3))
    table = TargetTable(specs, ids, values)
    dataset = Dataset.from_arrays("small", ids, table, densities, lattices, formulas, formulas)
    write_store(path, dataset)
    return dataset


@dataclass
class Outcome:
    """Everything that one call of ``Executor.train`` told."""

    failures: dict[str, Failure] = field(default_factory=dict)
    results: list[GroupResult] = field(default_factory=list)
    epochs: list[tuple[int, set[str]]] = field(default_factory=list)

    @property
    def finished(self) -> list[str]:
        """Keys of the results, in the order they came, sorted; a key that came twice stands there twice."""
        return sorted(result.key for result in self.results)


def train(
    executor: Executor,
    jobs: Sequence[GroupJob],
    on_epoch: OnEpoch[str] = all_go_on,
    **options: Any,
) -> Outcome:
    """Train jobs and return what was told meanwhile."""
    outcome = Outcome()

    def recorded(epoch, skills):
        outcome.epochs.append((epoch, set(skills)))
        return on_epoch(epoch, skills)

    outcome.failures = executor.train(jobs, recorded, outcome.results.append, **options)
    return outcome


def process_exists(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class ExecutorConformance:
    """Rules that every executor keeps."""

    executor_class: type[Executor]
    threads = 2

    def worker_pids(self, executor: Executor) -> list[int]:
        """Return the numbers of the executor's worker processes, on this machine; none where it has none."""
        return []

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The run folder."""
        return tmp_path_factory.mktemp("run")

    @pytest.fixture(scope="class")
    def executor(self, folder: Path) -> Iterator[Executor]:
        """The executor under test."""
        executor = self.executor_class(folder, self.threads)
        yield executor
        executor.close()

    @pytest.fixture(scope="class")
    def make_job(self, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
        """Makes a job of some targets of a small store."""
        path = tmp_path_factory.mktemp("data") / "small"
        content_hash = write_small_store(path).hash

        def make(*targets: str, epochs: int = 3, seed: int = 0, **model: Any) -> GroupJob:
            settings = ModelConfig(**(model or _SMALL_MODEL))
            training = TrainConfig(epochs=epochs, batch_size=16, lr=0.01)
            return GroupJob(targets, settings, training, seed, str(path), content_hash, _SPLIT)

        return make

    def _workers(self, executor: Executor) -> list[int]:
        pids = self.worker_pids(executor)
        if not pids:
            pytest.skip("this executor has no worker processes")
        return pids

    def test_a_result_depends_on_its_job_alone(
        self, executor: Executor, folder: Path, make_job: MakeJob
    ) -> None:
        jobs = [make_job("level"), make_job("spread", "noise"), make_job("level", "spread")]
        keys = {job.key for job in jobs}
        outcome = train(executor, jobs)
        assert outcome.failures == {}
        assert outcome.finished == sorted(keys)
        assert outcome.epochs == [(1, keys), (2, keys), (3, keys)]
        results = {result.key: result for result in outcome.results}
        threads = torch.get_num_threads()
        # Small networks are trained by one thread wherever they are trained.
        torch.set_num_threads(1)
        for job in jobs:
            alone = fit(*job_data(job), job)
            assert results[job.key].curve == alone.result.curve
            assert results[job.key].metrics == alone.result.metrics
            predictions = np.load(prediction_path(folder, job.key), allow_pickle=False)
            np.testing.assert_array_equal(predictions, np.float32(alone.predictions))
        torch.set_num_threads(threads)

    @pytest.mark.parametrize("keep", [False, True])
    def test_files_are_there_when_a_result_is_told(
        self, executor: Executor, folder: Path, make_job: MakeJob, keep: bool
    ) -> None:
        jobs = [make_job("level", seed=10 + keep), make_job("noise", seed=10 + keep)]
        files_there = []

        def look(result: GroupResult) -> None:
            prediction = prediction_path(folder, result.key).exists()
            files_there.append((prediction, network_path(folder, result.key).exists()))

        assert executor.train(jobs, all_go_on, look, keep=keep) == {}
        assert files_there == [(True, keep), (True, keep)]

    def test_a_job_left_out_is_stopped_and_the_others_train_as_if_alone(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        targets = ("level", "spread", "noise", "level")
        jobs = [make_job(target, seed=20 + number) for number, target in enumerate(targets)]
        going_on = {jobs[0].key, jobs[3].key}

        def stop_two(epoch, skills):
            return [key for key in skills if key in going_on]

        outcome = train(executor, jobs, stop_two)
        assert outcome.failures == {}
        assert outcome.finished == sorted(going_on)
        assert [keys for _, keys in outcome.epochs[1:]] == [going_on, going_on]
        whole = train(executor, [jobs[0]])
        (stopped_others,) = [r for r in outcome.results if r.key == jobs[0].key]
        assert whole.results[0].curve == stopped_others.curve

    def test_when_all_are_stopped_the_next_call_trains(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        jobs = [make_job("level", epochs=_ENDLESS), make_job("noise", epochs=_ENDLESS)]
        outcome = train(executor, jobs, lambda epoch, skills: skills if epoch < 2 else ())
        assert (outcome.failures, outcome.results, len(outcome.epochs)) == ({}, [], 2)
        self._trains(executor, make_job)

    def test_what_is_in_training_at_the_time_limit_fails(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        # Starting processes is not what is timed.
        self._trains(executor, make_job)
        jobs = [make_job("level", epochs=_ENDLESS), make_job("noise", epochs=_ENDLESS)]
        started = time.monotonic()
        outcome = train(executor, jobs, time_limit=0.5)
        assert time.monotonic() - started < _LATE_SECONDS
        assert {key: failure.kind for key, failure in outcome.failures.items()} == {
            job.key: "time_out" for job in jobs
        }
        assert outcome.results == []
        self._trains(executor, make_job)

    @pytest.mark.parametrize(
        ("raises", "error"), [("on_epoch", KeyboardInterrupt), ("on_result", RuntimeError)]
    )
    def test_an_error_of_the_caller_reaches_it_and_the_next_call_trains(
        self, executor: Executor, make_job: MakeJob, raises: str, error: type[BaseException]
    ) -> None:
        def fail(*given):
            raise error("of the caller")

        on_epoch = fail if raises == "on_epoch" else all_go_on
        on_result = fail if raises == "on_result" else lambda result: None
        with pytest.raises(error, match="of the caller"):
            executor.train([make_job("level"), make_job("noise")], on_epoch, on_result)
        self._trains(executor, make_job)

    def test_nothing_to_train_is_fine(self, executor: Executor) -> None:
        assert executor.train([], all_go_on, pytest.fail) == {}

    def test_a_killed_worker_fails_its_jobs_and_the_next_call_gets_a_new_one(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        self._trains(executor, make_job)
        victim = self._workers(executor)[0]
        jobs = [make_job(target, epochs=60) for target in ("level", "spread", "noise")]

        def kill(epoch, skills):
            if epoch == 2:
                os.kill(victim, signal.SIGKILL)
            return skills

        outcome = train(executor, jobs, kill)
        assert {failure.kind for failure in outcome.failures.values()} == {"signal"}
        assert all("SIGKILL" in failure.reason for failure in outcome.failures.values())
        assert sorted([*outcome.failures, *outcome.finished]) == sorted(job.key for job in jobs)
        self._trains(executor, make_job)

    def test_a_stopped_worker_runs_into_the_time_limit_and_is_ended(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        self._trains(executor, make_job)
        victim = self._workers(executor)[0]
        jobs = [make_job("level", epochs=_ENDLESS), make_job("noise", epochs=_ENDLESS)]

        def stop(epoch, skills):
            if epoch == 1:
                os.kill(victim, signal.SIGSTOP)
            return skills

        outcome = train(executor, jobs, stop, time_limit=2.0)
        assert {failure.kind for failure in outcome.failures.values()} == {"time_out"}
        assert set(outcome.failures) == {job.key for job in jobs}
        assert not process_exists(victim)

    def test_running_out_of_memory_is_a_failure_and_the_worker_goes_on(
        self, executor: Executor, make_job: MakeJob
    ) -> None:
        resource = pytest.importorskip("resource")
        if not hasattr(resource, "prlimit"):
            pytest.skip("this system cannot limit the memory of a running process")
        self._trains(executor, make_job)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        pids = self._workers(executor)
        for pid in pids:
            size = psutil.Process(pid).memory_info().vms
            resource.prlimit(pid, resource.RLIMIT_AS, (size + (64 << 20), unlimited[1]))
        hungry = make_job("level", **_HUNGRY_MODEL)
        outcome = train(executor, [hungry])
        assert [failure.kind for failure in outcome.failures.values()] == ["out_of_memory"]
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
        self._trains(executor, make_job)
        assert set(pids) <= set(self.worker_pids(executor))

    def test_closing_ends_every_process_and_may_be_done_twice(
        self, folder: Path, make_job: MakeJob
    ) -> None:
        executor = self.executor_class(folder, self.threads, "closed")
        self._trains(executor, make_job)
        pids = self.worker_pids(executor)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        executor.close()
        executor.close()
        assert not any(map(process_exists, pids))
        unused = self.executor_class(folder, self.threads, "unused")
        unused.close()

    def _trains(self, executor: Executor, make_job: MakeJob) -> None:
        jobs = [make_job("level", seed=90), make_job("noise", seed=90)]
        outcome = train(executor, jobs)
        assert outcome.failures == {}
        assert outcome.finished == sorted(job.key for job in jobs)
