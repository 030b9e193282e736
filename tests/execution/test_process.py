"""Small networks at once: the same results whoever is beside, and what becomes of processes that die."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from taskgroup.execution.executors import ProcessExecutor
from taskgroup.execution.worker_pool import WorkerPool, is_small

from taskgroup.errors import TrainingFailed
from taskgroup.execution import worker_pool
from taskgroup.execution.worker import prediction_path, train_in_step
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.training import GroupJob


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[WorkerPool]:
    found = WorkerPool(tmp_path)
    yield found
    found.close()


@pytest.fixture
def jobs(make_config):
    def make(*targets: str, epochs: int = 3, seed: int = 0) -> list[GroupJob]:
        config = make_config(f"space.training.epochs={epochs}")
        _, model, training = settings_of(config.space.baseline())
        data = StudyData(config)
        return [data.job(target.split("+"), Recipe(model, training), seed, 1) for target in targets]

    return make


def train(jobs, folder, beside, threads, on_epoch=lambda epoch, skills: skills):
    results, failures, epochs = {}, {}, []

    def seen(epoch, skills):
        epochs.append((epoch, set(skills)))
        return on_epoch(epoch, skills)

    train_in_step(
        jobs,
        folder,
        seen,
        lambda result: results.__setitem__(result.key, result),
        lambda key, kind, reason: failures.__setitem__(key, kind),
        threads=threads,
        beside=beside,
    )
    return results, failures, epochs


def test_a_result_does_not_depend_on_who_was_trained_beside_it(beside, jobs, tmp_path: Path):
    todo = jobs("level", "volume", "spread+volume", "level_too")
    packed, failures, epochs = train(todo, tmp_path, beside, 2)
    assert failures == {}
    assert epochs == [(epoch, {job.key for job in todo}) for epoch in (1, 2, 3)]
    for job in todo:
        folder = tmp_path / job.key[:8]
        alone, *_ = train([job], folder, None, 1)
        assert packed[job.key].curve == alone[job.key].curve
        assert packed[job.key].metrics == alone[job.key].metrics
        ours, theirs = (np.load(prediction_path(place, job.key)) for place in (tmp_path, folder))
        np.testing.assert_array_equal(ours, theirs)


def test_jobs_are_shared_and_lanes_stay_warm(beside, jobs, tmp_path: Path):
    todo = jobs("level", "volume", "spread")
    mine, first = beside.share(todo, False, 2)
    assert ([job.targets for job in mine], [lane.keys for lane in first]) == (
        [("level",), ("spread",)],
        [[todo[1].key]],
    )
    first[0].epoch(pytest.fail, pytest.fail)
    first[0].answer(())
    _, second = beside.share(todo, False, 2)
    assert second == first


def test_all_stop_together_and_go_on_with_the_next_jobs(beside, jobs, tmp_path: Path):
    todo = jobs("level", "volume", epochs=500)
    results, failures, epochs = train(
        todo, tmp_path, beside, 2, lambda epoch, skills: skills if epoch < 2 else ()
    )
    assert (results, failures, len(epochs)) == ({}, {}, 2)
    results, *_ = train(jobs("spread", "level_too"), tmp_path, beside, 2)
    assert len(results) == 2


def test_some_are_stopped_and_the_others_train_as_if_alone(beside, jobs, tmp_path: Path):
    todo = jobs("level", "volume", "spread", "level_too")
    whole, *_ = train(todo, tmp_path, beside, 2)
    on = {todo[0].key, todo[3].key}  # one in the worker, one beside it
    results, failures, epochs = train(
        todo, tmp_path, beside, 2, lambda epoch, skills: [k for k in skills if k in on]
    )
    assert (failures, [keys for _, keys in epochs[1:]]) == ({}, [on, on])
    assert {key: result.curve for key, result in results.items()} == {
        key: whole[key].curve for key in on
    }


def test_a_killed_lane_fails_its_jobs_alone_and_is_replaced(beside, jobs, tmp_path: Path):
    todo = jobs("level", "volume")

    def kill(epoch, skills):
        if epoch == 1:
            os.kill(beside._lanes[0]._process.pid, signal.SIGKILL)
        return skills

    results, failures, _ = train(todo, tmp_path, beside, 2, kill)
    assert (set(results), failures) == ({todo[0].key}, {todo[1].key: "signal"})
    results, failures, _ = train(todo, tmp_path, beside, 2)
    assert (len(results), failures) == (2, {})


def test_no_process_is_started_without_memory_for_it(beside, jobs, monkeypatch):
    monkeypatch.setattr(worker_pool, "_free_bytes", lambda: 1e6)
    todo = jobs("level", "volume")
    assert beside.share(todo, False, 2) == (todo, [])


def test_a_gpu_is_left_to_one_process(beside, jobs, monkeypatch):
    monkeypatch.setattr(worker_pool, "pick_device", lambda device: torch.device("cuda"))
    todo = jobs("level", "volume")
    assert beside.share(todo, False, 2) == (todo, [])


def test_a_network_that_runs_out_of_memory_beside_others_is_told_and_packing_backs_off(
    beside, jobs, tmp_path: Path
):
    todo = jobs("level", "volume", "spread", "level_too")
    assert len(beside.share(todo, False, 2)[1]) == 1
    beside.close()

    def short_of_memory(*given):
        raise TrainingFailed("level: out of memory", "out_of_memory")
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskgroup.execution.worker.fit_halves", short_of_memory)
        _, failures, _ = train(todo, tmp_path, beside, 2)
    assert "out_of_memory" in failures.values()
    assert beside.share(todo, False, 2) == (todo, [])


def test_large_networks_are_left_to_all_threads(beside, jobs):
    small, other = jobs("level", "volume")
    large = GroupJob.from_dict(
        other.to_dict() | {"model": other.to_dict()["model"] | {"grid": 128, "patch": 1}}
    )
    assert (is_small(small), is_small(large)) == (True, False)
    assert beside.share([small, large], False, 2) == ([small, large], [])


def test_lanes_end_with_their_worker(tmp_path: Path, jobs):
    executor = ProcessExecutor(tmp_path, threads=2)
    executor.train(jobs("level", "volume"), lambda epoch, skills: skills, lambda result: None)
    process = executor._process
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    (lane,) = (int(pid) for pid in children.read_text().split())
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert not Path(f"/proc/{lane}").exists()
    executor.close()
