"""Training in step, checkpoints of trainings that are cut short, and results that survive a kill."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from taskgroup.errors import TrainingFailed
from taskgroup.execution import InlineExecutor, ProcessExecutor, worker
from taskgroup.execution.results import checkpoint_path
from taskgroup.execution.testing import train
from taskgroup.training import Checkpoint


@pytest.fixture
def executor(tmp_path: Path) -> InlineExecutor:
    executor = InlineExecutor(tmp_path, 1)
    executor.checkpoint_seconds = 0.0
    return executor


def test_a_job_that_cannot_be_trained_fails_alone(executor, jobs, monkeypatch):
    todo = jobs("level", "volume", "spread")
    fit_halves = worker.fit_halves

    def failing(dataset, split, job, **options):
        if job.targets == ("volume",):
            raise TrainingFailed("volume: out of memory", "out_of_memory")
        return (yield from fit_halves(dataset, split, job, **options))

    monkeypatch.setattr(worker, "fit_halves", failing)
    outcome = train(executor, todo)
    assert {key: failure.kind for key, failure in outcome.failures.items()} == {
        todo[1].key: "out_of_memory"
    }
    assert outcome.finished == sorted([todo[0].key, todo[2].key])


def test_a_checkpoint_goes_with_the_result_or_the_decision_to_stop(executor, jobs):
    first, second = jobs("level", "volume")
    paths = [checkpoint_path(executor.folder, job.key) for job in (first, second)]
    there = []

    def look(epoch, skills):
        there.append([path.exists() for path in paths])
        return [first.key] if epoch == 2 else list(skills)

    outcome = train(executor, [first, second], look)
    assert outcome.finished == [first.key]
    # Nobody goes on after the last epoch, so it needs no checkpoint of its own.
    assert there[:2] == [[True, True], [True, True]]
    assert there[2] == [True, False]
    assert [path.exists() for path in paths] == [False, False]


def test_a_checkpoint_stays_where_a_training_is_cut_short(executor, jobs):
    late, interrupted = jobs("level", "volume", epochs=9000)
    outcome = train(executor, [late], time_limit=0.3)
    assert outcome.failures[late.key].kind == "time_out"
    assert checkpoint_path(executor.folder, late.key).exists()

    def interrupt(epoch, skills):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(executor, [interrupted], interrupt)
    assert checkpoint_path(executor.folder, interrupted.key).exists()


def test_a_training_whose_worker_is_killed_goes_on_from_its_last_epoch(
    jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    todo = jobs("level", "spread+volume", epochs=12)
    undisturbed = train(InlineExecutor(tmp_path / "undisturbed", 1), todo)
    executor = ProcessExecutor(tmp_path / "killed", 1)
    executor.checkpoint_seconds = 0.0

    def kill(epoch, skills):
        if epoch == 8:
            os.kill(executor.worker_pids[0], signal.SIGKILL)
        return skills

    outcome = train(executor, todo, kill)
    executor.close()
    assert {failure.kind for failure in outcome.failures.values()} == {"signal"}

    epochs_found = []
    load = Checkpoint.load

    def spy(self, key):
        checkpoint = load(self, key)
        epochs_found.append(checkpoint is not None)
        return checkpoint

    monkeypatch.setattr(Checkpoint, "load", spy)
    resumed = train(InlineExecutor(tmp_path / "killed", 1), todo)
    assert epochs_found == [True, True]
    assert [epoch for epoch, _ in resumed.epochs] == list(range(1, 13))
    expected = {result.key: result for result in undisturbed.results}
    for result in resumed.results:
        assert result.metrics == expected[result.key].metrics
        assert result.curve == expected[result.key].curve
        assert result.train_curve == expected[result.key].train_curve


# Forks of one process, so that 200 kills take seconds. Each trains (in no time) what is missing, and is killed at one
# of three moments between the files of a result and the next one, or at any moment after the first file.
KILLS = """
    import json, os, random, signal, sys, time
    from collections import Counter
    from pathlib import Path
    from types import SimpleNamespace

    import numpy as np

    from taskgroup.execution import ResultStore, results, worker
    from taskgroup.models import ModelConfig
    from taskgroup.training import GroupJob, GroupResult, TrainConfig

    run, kills, jobs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    split = {"by": "formula", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
    settings = worker.WorkerSettings(run, False, 1, "nobody", 60.0)

    def result_of(seed):
        job = GroupJob(("a", "b"), ModelConfig(), TrainConfig(), seed, "data", "hash", split)
        metrics = {target: {"skill": 0.5, "n": 3} for target in job.targets}
        return GroupResult(job, metrics, (dict.fromkeys("ab", 0.5),), 1.0, 1, 1, 10)

    def followed_by_death(function):
        def dying(*given, **options):
            function(*given, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        return dying

    def train_all(moment):
        if moment == "files":
            worker.store_fit = followed_by_death(worker.store_fit)
        if moment == "line":
            results.append_line = followed_by_death(results.append_line)
        if moment == "result":
            ResultStore.add = followed_by_death(ResultStore.add)
        store = ResultStore(run / "results")
        store.recover()
        for result in todo:
            if result.key in store:
                continue
            with open(run / "trained", "a") as file:
                file.write(result.key + chr(10))
            worker.store_fit(SimpleNamespace(result=result, predictions=np.zeros((3, 2))), settings)
            store.add(result)
        os._exit(0)

    def keys_of(folder, ending):
        return {path.stem for path in (run / folder).glob("*" + ending)}

    def trainings():
        return Counter((run / "trained").read_text().split())

    todo = [result_of(seed) for seed in range(jobs)]
    (run / "predictions").mkdir(parents=True)
    (run / "trained").touch()
    in_between, settled = 0, {}
    for number in range(kills):
        moment = ("files", "line", "result", "any")[number % 4]
        before = keys_of("predictions", ".npy")
        child = os.fork()
        if child == 0:
            train_all(moment)
        if moment == "any":
            while keys_of("predictions", ".npy") == before:
                pass
            time.sleep(random.Random(number).uniform(0, 1e-3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        pending = keys_of("results/pending", ".json")
        lines = set(ResultStore(run / "results")._places)
        in_between += bool(pending - lines)
        trained = trainings()
        for key in pending | lines:
            settled.setdefault(key, trained[key])
    child = os.fork()
    if child == 0:
        train_all("")
    os.waitpid(child, 0)
    trained = trainings()
    keys = [json.loads(line)["key"] for line in open(run / "results" / "main.jsonl")]
    files = keys_of("predictions", ".npy")
    print(json.dumps({
        "lines": len(keys),
        "results": len(set(keys) & files),
        "pending": len(keys_of("results/pending", ".json")),
        "kills in between": in_between,
        "trained again": sum(trained[key] - number for key, number in settled.items()),
    }))
"""


def test_no_kill_between_the_files_of_a_result_and_its_line_costs_the_result(tmp_path: Path):
    kills, jobs = 200, 800
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(KILLS),
            str(tmp_path / "run"),
            str(kills),
            str(jobs),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("kills in between") >= kills / 4
    assert told == {"lines": jobs, "results": jobs, "pending": 0, "trained again": 0}
