"""Worker processes: how jobs are dealt out, and what becomes of processes that die or hang."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from taskgroup.execution import channel, process
from taskgroup.execution.executor import Failure
from taskgroup.execution.inline import InlineExecutor
from taskgroup.execution.process import ProcessExecutor, WorkerPool
from taskgroup.execution.results import network_path, prediction_path
from taskgroup.execution.testing import process_exists, train
from taskgroup.execution.worker import is_small
from taskgroup.machine import available_cores
from taskgroup.training import GroupJob


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(tmp_path_factory.mktemp("run"), threads=2)
    yield executor
    executor.close()


class FakeWorker:
    """A worker process that only remembers what it was sent."""

    def __init__(self, function, arguments, *, log, environment) -> None:
        self.log = log
        self.environment = environment
        self.alive = False
        self.sent: list[dict] = []

    def start(self) -> None:
        self.alive = True

    def close(self) -> None:
        self.alive = False

    def send(self, kind: str, **content) -> None:
        self.sent.append({"kind": kind, **content})


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkerPool:
    monkeypatch.setattr(process, "WorkerProcess", FakeWorker)
    return WorkerPool(tmp_path, "0", 2)


def shares(pool: WorkerPool, jobs: list[GroupJob], threads: int = 2) -> list[list[GroupJob]]:
    return [share for _, share in pool.share(jobs, threads)]


def large(job: GroupJob) -> GroupJob:
    content = job.to_dict()
    model = content["model"] | {"backbone": "resnet3d", "grid": 128, "patch": 1}
    return GroupJob.from_dict(content | {"model": model})


# -- dealing jobs out --------------------------------------------------------------------------------


def test_jobs_are_shared_and_workers_stay_warm(pool: WorkerPool, jobs):
    todo = jobs("level", "volume", "spread")
    first = pool.share(todo, 2)
    assert [share for _, share in first] == [[todo[0], todo[2]], [todo[1]]]
    second = pool.share(todo, 2)
    assert [worker for worker, _ in second] == [worker for worker, _ in first]
    first[1][0].alive = False
    assert all(worker.alive for worker, _ in pool.share(todo, 2))


def test_large_networks_are_left_to_all_threads_of_the_first_process(pool: WorkerPool, jobs):
    small, other, third = jobs("level", "volume", "spread")
    big = large(other)
    assert (is_small(small), is_small(big)) == (True, False)
    assert shares(pool, [small, big]) == [[small, big]]
    assert shares(pool, [small, big, third]) == [[small, big], [third]]
    first, second = pool.workers
    assert [pool.threads_of(worker, 2) for worker in (first, second)] == [2, 1]
    assert first.environment["OMP_NUM_THREADS"] == "2"
    assert second.environment["OMP_NUM_THREADS"] == "1"
    assert first.log != second.log


def test_no_process_is_started_without_memory_for_it(pool: WorkerPool, jobs, monkeypatch):
    todo = jobs("level", "volume", "spread")
    monkeypatch.setattr(process, "free_memory", lambda: 1e6)
    assert shares(pool, todo, 3) == [todo]
    monkeypatch.setattr(process, "free_memory", lambda: 1 << 30)
    assert len(shares(pool, todo, 3)) == 2
    pool.learn_memory(2 << 30)
    assert len(shares(pool, todo, 3)) == 2


def test_a_gpu_is_left_to_one_process(pool: WorkerPool, jobs, monkeypatch):
    monkeypatch.setattr(process, "pick_device", lambda device: torch.device("cuda"))
    todo = jobs("level", "volume")
    assert shares(pool, todo) == [todo]


def test_where_memory_runs_out_half_as_many_processes_are_used(pool: WorkerPool, jobs, monkeypatch):
    monkeypatch.setattr(process, "free_memory", lambda: 1 << 40)
    todo = jobs("level", "volume", "spread", "level_too")
    assert len(shares(pool, todo, 4)) == 4
    pool.back_off(Failure("nan", "not a matter of memory"))
    assert len(shares(pool, todo, 4)) == 4
    pool.back_off(Failure("out_of_memory", "no room"))
    assert len(shares(pool, todo, 4)) == 2
    pool.back_off(Failure("out_of_memory", "no room"))
    assert shares(pool, todo, 4) == [todo]


@pytest.mark.parametrize(
    ("name", "gpus", "device"),
    [
        ("0", 4, "cuda:0"),
        ("3", 4, "cuda:3"),
        ("node7-811-5", 4, "cuda:1"),
        ("learning", 2, "cuda:0"),
        ("3", 1, None),
    ],
)
def test_workers_take_turns_on_several_gpus(name, gpus, device, monkeypatch, tmp_path: Path):
    class Started(Exception):
        pass

    def start(command, env, **options):
        raise Started(env.get("TASKGROUP_DEVICE"))

    monkeypatch.delenv("TASKGROUP_DEVICE", raising=False)
    monkeypatch.setattr(process.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(channel.subprocess, "Popen", start)
    with pytest.raises(Started) as found:
        ProcessExecutor(tmp_path, name=name)._pool._running(1)
    assert found.value.args == (device,)
    monkeypatch.setenv("TASKGROUP_DEVICE", "cpu")
    with pytest.raises(Started, match="cpu"):
        ProcessExecutor(tmp_path, name=name)._pool._running(1)


def test_a_worker_is_told_its_threads_since_small_networks_set_its_own_to_one(
    monkeypatch, jobs, tmp_path: Path
):
    class Refused(Exception):
        pass

    def refuse(workers, deadline):
        raise Refused

    monkeypatch.setattr(process, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(process, "next_messages", refuse)
    executor = ProcessExecutor(tmp_path)
    (job,) = jobs("level")
    with pytest.raises(Refused):
        train(executor, [job])
    (message,) = executor._pool.workers[0].sent
    assert message["threads"] == available_cores()


# -- real processes ----------------------------------------------------------------------------------


def test_a_worker_process_gives_what_this_process_gives(executor, jobs, tmp_path: Path):
    todo = jobs("level", "spread+volume", "volume", epochs=4)
    apart = train(executor, todo, keep=True)
    assert apart.failures == {}
    assert apart.epochs == [(epoch, {job.key for job in todo}) for epoch in range(1, 5)]
    here = train(InlineExecutor(tmp_path, threads=1), todo)
    results = {result.key: result for result in apart.results}
    for result in here.results:
        assert results[result.key].metrics == result.metrics
        assert results[result.key].curve == result.curve
        ours, theirs = (
            np.load(prediction_path(folder, result.key)) for folder in (executor.folder, tmp_path)
        )
        np.testing.assert_array_equal(ours, theirs)
        assert network_path(executor.folder, result.key).exists()
        assert not network_path(tmp_path, result.key).exists()


def test_a_killed_worker_fails_its_jobs_alone_and_is_replaced(executor, jobs):
    train(executor, jobs("level", "volume"))
    todo = jobs("level", "volume", epochs=40)

    def kill(epoch, skills):
        if epoch == 1:
            os.kill(executor.worker_pids[1], signal.SIGKILL)
        return skills

    outcome = train(executor, todo, kill)
    assert outcome.finished == [todo[0].key]
    assert {key: failure.kind for key, failure in outcome.failures.items()} == {
        todo[1].key: "signal"
    }
    outcome = train(executor, jobs("level", "volume"))
    assert (len(outcome.results), outcome.failures) == (2, {})


def test_a_worker_that_hangs_fails_its_jobs_alone_and_is_replaced(executor, jobs):
    train(executor, jobs("level", "volume"))
    todo = jobs("level", "volume", epochs=40)
    victim = executor.worker_pids[0]

    def stop(epoch, skills):
        if epoch == 1:
            os.kill(victim, signal.SIGSTOP)
        return skills

    executor.silence_limit = 5.0
    outcome = train(executor, todo, stop)
    executor.silence_limit = channel.SILENCE_SECONDS
    assert outcome.finished == [todo[1].key]
    assert outcome.failures == {
        todo[0].key: Failure("time_out", "worker gave no sign of life for 5 s")
    }
    assert not process_exists(victim)
    outcome = train(executor, jobs("level", "volume"))
    assert (len(outcome.results), outcome.failures) == (2, {})


def test_an_error_in_a_worker_is_reported_with_its_last_line(executor, jobs):
    (job,) = jobs("level")
    foreign = GroupJob.from_dict(job.to_dict() | {"dataset_hash": "0" * 64})
    failure = train(executor, [foreign]).failures[foreign.key]
    assert failure.kind == "error"
    assert "the dataset changed since the study began" in failure.reason
