"""Several processes on one run: real ones, some of them killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from taskgroup.execution import ResultStore
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.grouping import Grouping
from taskgroup.search.storage import TrialStorage
from taskgroup.study import Study
from taskgroup.tracking import (
    TrialRecord,
    append_record,
    read_records,
    record_file,
    rows_from_mlflow,
    tracking_uri,
)

RECORD = TrialRecord(
    number=0,
    kind="trial",
    name="trial-0",
    grouping=Grouping.singles(["a"]),
    objective=0.5,
    skills={"a": 0.5},
    gains={},
    settings={},
    state="COMPLETE",
    fail_kind=None,
    fail_reason=None,
    keys=("k",),
    n_cached=0,
    seconds=1.0,
)


def taskgroup(*arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "taskgroup", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_who_lives(tmp_path: Path):
    with Heartbeat(tmp_path) as peers:
        here = socket.gethostname()
        other = subprocess.Popen(["sleep", "60"])
        (tmp_path / "workers" / f"{here}-{other.pid}").touch()
        assert peers.lives(f"{here}-{other.pid}")
        assert peers.others() == [f"{here}-{other.pid}"]
        other.kill()
        other.wait()
        assert not peers.lives(f"{here}-{other.pid}")
        for name in (peers.name, "", "elsewhere", "elsewhere-7"):
            assert not peers.lives(name)
        far = tmp_path / "workers" / "elsewhere-7"
        far.touch()
        assert peers.lives("elsewhere-7")
        again = (
            tmp_path / "workers" / f"{here}-{os.getppid()}"
        )  # lives, but has another process's number
        again.touch()
        os.utime(again, (time.time() - 120,) * 2)
        assert not peers.lives(again.name)
        os.utime(far, (time.time() - 120,) * 2)
        assert not peers.lives("elsewhere-7")
    assert not (tmp_path / "workers" / peers.name).exists()


def test_news_are_what_others_wrote_since_each_once(tmp_path: Path):
    append_record(tmp_path, RECORD)
    with Heartbeat(tmp_path) as conductor:
        append_record(tmp_path, replace(RECORD, number=1))  # its own
        append_record(tmp_path, replace(RECORD, number=2), "far-7")
        assert [record.number for record in conductor.news()] == [2]
        line = json.dumps(replace(RECORD, number=3).to_dict()) + "\n"
        with record_file(tmp_path, "far-7").open("a") as file:
            file.write(line[:40])
            file.flush()
            assert conductor.news() == []
            file.write(line[40:])
        assert [record.number for record in conductor.news()] == [3]
        assert conductor.news() == []
    with Heartbeat(tmp_path, joins=True) as worker:
        append_record(tmp_path, replace(RECORD, number=4))
        append_record(tmp_path, replace(RECORD, number=5), worker.writer)
        assert [record.number for record in worker.news()] == [4]
        assert worker.stream != conductor.stream == 0


@pytest.mark.parametrize(("storage", "killed"), [(None, "worker"), ("journal", "conductor")])
def test_processes_share_a_run_and_one_that_is_killed_takes_nothing_along(
    make_config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for,
    storage: str | None,
    killed: str,
):
    rates = "space.training.lr={low: 0.001, high: 0.01, log: true}"
    config = make_config(rates, "space.training.epochs=60", "search.n_trials=24")
    content = config.model_dump(mode="json", exclude_unset=True)
    content |= {"storage": f"journal:{tmp_path / 'journal.log'}"} if storage else {}
    file, run = tmp_path / "small.yaml", tmp_path / "runs" / "small"
    file.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("TASKGROUP_HOME", str(tmp_path))
    workers = [taskgroup("worker", run, "--wait", "2m") for _ in range(2)]
    conductor = taskgroup("run", file, "--quiet")
    wait_for(lambda: any(run.glob("trials-*.jsonl")))
    busy, survivor = sorted(
        workers, key=lambda worker: not any(run.glob(f"trials-*-{worker.pid}.jsonl"))
    )
    victim = conductor if killed == "conductor" else busy
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    said, errors = survivor.communicate(timeout=240)
    assert survivor.returncode == 0, errors.decode()[-2000:]
    assert b"Trials run here: " in said
    if killed == "conductor":
        busy.communicate(timeout=60)
        assert not (run / "final.json").exists()
        conductor = taskgroup("resume", run, "--quiet")
    _, errors = conductor.communicate(timeout=240)
    assert conductor.returncode == 0, errors.decode()[-2000:]
    study = Study.open(run)
    records = [record for record in read_records(run) if record.kind in ("baseline", "trial")]
    numbers = [record.number for record in records]
    assert len(numbers) == len(set(numbers))
    assert len(records) == 24, "the budget counts the trials of all processes"
    assert [record.name for record in records if record.kind == "baseline"].count("singles") == 1
    writers = {path.name for path in run.glob("trials*.jsonl")}
    assert {"trials.jsonl", f"trials-{socket.gethostname()}-{busy.pid}.jsonl"} <= writers
    assert study.final() is not None
    stored = TrialStorage.open(study.config, run).trials()
    assert {trial.state.name for trial in stored} <= {"COMPLETE", "PRUNED", "FAIL"}, (
        "nothing is left running or queued"
    )
    store = ResultStore(run / "results")
    assert all(
        key in store for record in records if record.state == "COMPLETE" for key in record.keys
    )
    parent = json.loads((run / "mlflow.json").read_text())["run_id"]
    logged = rows_from_mlflow(tracking_uri(run), parent)
    assert len([row for row in logged if row["kind"] in ("baseline", "trial")]) == len(records)


def test_a_worker_without_a_run_or_with_nothing_to_do_says_so(make_config, tmp_path: Path):
    nowhere = taskgroup("worker", tmp_path / "nowhere")
    assert b"nowhere" in nowhere.communicate(timeout=60)[1]
    assert nowhere.returncode == 2
    study = Study(make_config("search.n_trials=4"), tmp_path / "run").run()
    before = read_records(study.folder)
    assert study.work() == 0
    assert read_records(study.folder) == before
    assert json.loads((study.folder / "study.json").read_text())["state"] == "finished"
