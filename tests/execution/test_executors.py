"""Executors: equal results in this process and in a worker, and what becomes of workers that die."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from taskgroup.errors import ConfigError
from taskgroup.execution import executors
from taskgroup.execution.executors import (
    Executor,
    InlineExecutor,
    ProcessExecutor,
    available_cores,
    make_executor,
)
from taskgroup.execution.worker import network_path, prediction_path
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.training import GroupJob, GroupResult


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(tmp_path, threads=1)
    yield executor
    executor.close()


@pytest.fixture
def jobs(make_config):
    def make(*targets: str, epochs: int = 4, seed: int = 0) -> list[GroupJob]:
        config = make_config(f"space.training.epochs={epochs}")
        _, model, training = settings_of(config.space.baseline())
        data = StudyData(config)
        return [data.job(target.split("+"), Recipe(model, training), seed, 1) for target in targets]

    return make


def train(
    executor: Executor, jobs: list[GroupJob], **options
) -> tuple[dict[str, GroupResult], dict, list]:
    results, epochs = {}, []

    def on_epoch(epoch, skills):
        epochs.append((epoch, set(skills)))
        return skills

    failures = executor.train(
        jobs, on_epoch, lambda result: results.__setitem__(result.key, result), **options
    )
    return results, failures, epochs


def test_a_worker_process_gives_what_this_process_gives(worker, jobs, tmp_path: Path):
    todo = jobs("level", "spread+volume")
    apart, failures, epochs = train(worker, todo, keep=True)
    assert failures == {}
    assert epochs == [(epoch, {job.key for job in todo}) for epoch in range(1, 5)]
    here, _, _ = train(InlineExecutor(tmp_path / "inline", threads=1), todo)
    for key, result in here.items():
        assert apart[key].metrics == result.metrics
        assert apart[key].curve == result.curve
        ours, theirs = (
            np.load(prediction_path(folder, key)) for folder in (tmp_path, tmp_path / "inline")
        )
        np.testing.assert_array_equal(ours, theirs)
        assert network_path(tmp_path, key).exists()
        assert not network_path(tmp_path / "inline", key).exists()


def test_a_worker_is_told_its_threads_since_small_networks_set_its_own_to_one(
    monkeypatch, jobs, tmp_path: Path
):
    told, send = [], ProcessExecutor._send
    monkeypatch.setattr(
        ProcessExecutor, "_send", lambda self, message: (told.append(message), send(self, message))
    )
    executor = ProcessExecutor(tmp_path)
    try:
        train(executor, jobs("level", epochs=1))
    finally:
        executor.close()
    assert [message["threads"] for message in told if "jobs" in message] == [available_cores()]


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
    monkeypatch.setattr(executors.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(executors.subprocess, "Popen", start)
    with pytest.raises(Started) as found:
        ProcessExecutor(tmp_path, name=name)._worker()
    assert found.value.args == (device,)
    monkeypatch.setenv("TASKGROUP_DEVICE", "cpu")
    with pytest.raises(Started, match="cpu"):
        ProcessExecutor(tmp_path, name=name)._worker()


@pytest.mark.parametrize("kind", ["inline", "process"])
def test_training_stops_when_told_to_and_the_executor_goes_on(kind: str, jobs, tmp_path: Path):
    executor = make_executor(kind, tmp_path, 1, "0")
    seen = []

    def stop(epoch, skills):
        seen.append(epoch)
        return skills if epoch < 2 else ()

    failures = executor.train(jobs("level"), stop, pytest.fail)
    assert (failures, seen) == ({}, [1, 2])
    results, _, _ = train(executor, jobs("volume"))
    assert len(results) == 1
    executor.close()


def test_a_killed_worker_is_a_failure_with_its_signal_and_the_next_job_gets_a_new_one(worker, jobs):
    todo = jobs("level", "volume", epochs=2000)

    def kill(epoch, skills):
        os.kill(worker._process.pid, signal.SIGKILL)
        return skills

    failures = worker.train(todo, kill, pytest.fail)
    assert {failure.kind for failure in failures.values()} == {"signal"}
    assert "SIGKILL" in failures[todo[0].key].reason
    assert set(failures) == {job.key for job in todo}
    results, failures, _ = train(worker, jobs("level"))
    assert (len(results), failures) == (1, {})


@pytest.mark.parametrize("kind", ["inline", "process"])
def test_a_trial_beyond_its_time_is_a_time_out(kind: str, jobs, tmp_path: Path):
    executor = make_executor(kind, tmp_path, 1, "0")
    train(executor, jobs("volume"))  # the worker's start is not what is timed
    start = time.monotonic()
    _, failures, _ = train(executor, jobs("level", epochs=9000), time_limit=0.5)
    executor.close()
    assert [failure.kind for failure in failures.values()] == ["time_out"]
    assert time.monotonic() - start < 10


def test_an_error_in_a_worker_is_reported_with_its_last_line(worker, jobs, store: Path):
    (job,) = jobs("level")
    foreign = GroupJob.from_dict(job.to_dict() | {"dataset_hash": "0" * 64})
    _, failures, _ = train(worker, [foreign])
    assert failures[foreign.key].kind == "error"
    assert "the dataset changed since the study began" in failures[foreign.key].reason


def test_a_worker_ends_when_its_parent_is_gone(worker, jobs):
    process = worker._worker()
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_an_unknown_executor_is_answered_with_the_nearest(tmp_path: Path):
    with pytest.raises(ConfigError, match="did you mean 'process'"):
        make_executor("proces", tmp_path, None, "0")


def test_threads_may_share_one_store_and_train_no_key_twice(tmp_path: Path, make_config):
    from taskgroup.execution.evaluator import Evaluator
    from taskgroup.execution.results import ResultStore
    from taskgroup.grouping import Grouping
    from taskgroup.spec.plan import Plan

    config = make_config()
    _, model, training = settings_of(config.space.baseline())
    data, store = StudyData(config), ResultStore(tmp_path / "results")
    plan = Plan.uniform(
        Grouping.from_partition([["level", "level_too"], ["spread"], ["volume"]]),
        Recipe(model, training),
    )
    trained: list[str] = []

    class Counting(InlineExecutor):
        def train(self, jobs, on_epoch, on_result, **options):
            trained.extend(job.key for job in jobs)
            return super().train(jobs, on_epoch, on_result, **options)

    evaluations = []
    evaluators = [Evaluator(data, store, Counting(tmp_path, 1, str(i)), None) for i in range(3)]
    threads = [
        threading.Thread(target=lambda e=e: evaluations.append(e.evaluate(plan, [(0, 1)])))
        for e in evaluators
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == len(set(trained)) == 3
    assert {tuple(e.skills.items()) for e in evaluations} == {tuple(evaluations[0].skills.items())}


def test_what_nobody_watches_is_trained_a_few_at_a_time_the_longest_first(
    tmp_path: Path, make_config
):
    from taskgroup.execution.evaluator import Evaluator
    from taskgroup.execution.results import ResultStore
    from taskgroup.grouping import Grouping
    from taskgroup.spec.plan import Plan

    config = make_config()
    _, model, training = settings_of(config.space.baseline())
    data, store = StudyData(config), ResultStore(tmp_path / "results")
    rows = {"level": 9, "level_too": 7, "spread": 8, "volume": 5}
    data.labelled_rows = lambda job: rows[job.targets[0]]
    calls: list[list[str]] = []

    class Watched(InlineExecutor):
        at_once = 3

        def train(self, jobs, on_epoch, on_result, **options):
            calls.append([job.targets[0] for job in jobs])
            return super().train(jobs, on_epoch, on_result, **options)

    plan = Plan.uniform(Grouping.singles(tuple(rows)), Recipe(model, training))
    evaluator = Evaluator(data, store, Watched(tmp_path, 1), None)
    whole = evaluator.evaluate(plan, [(0, 1), (7, 2)])
    assert calls == [
        ["level", "level", "spread"],
        ["spread", "level_too", "level_too"],
        ["volume", "volume"],
    ]
    parts = [evaluator.evaluate(plan, [repeat]) for repeat in ((0, 1), (7, 2))]
    assert len(calls) == 3
    for target in rows:
        assert whole.skills[target] == pytest.approx(
            np.mean([part.skills[target] for part in parts])
        )
    calls.clear()
    evaluator.evaluate(plan, [(8, 1)], lambda epoch, skills: ())
    assert [len(call) for call in calls] == [4]  # watched ones train in step
