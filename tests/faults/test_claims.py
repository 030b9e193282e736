"""Claims of real processes: several on one small study, and one that is stopped for minutes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from taskgroup.execution.claims import newest_claim

pytestmark = pytest.mark.faults


@pytest.fixture
def wait_for():
    """Waits until a condition holds."""

    def wait(condition, seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.05)

    return wait


def keys_of_results(run: Path) -> list[str]:
    keys = []
    for path in (run / "results").glob("*.jsonl"):
        keys += [json.loads(line)["key"] for line in path.read_text().splitlines()]
    return keys


def test_a_stopped_process_blocks_nobody_and_overwrites_nothing_when_it_goes_on(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_for
):
    config = make_config(
        "space.training.epochs=60",
        "search.n_trials=4",
        "refit.top=1",
        f"storage=journal:{tmp_path / 'j.log'}",
    )
    file, run = tmp_path / "small.yaml", tmp_path / "runs" / "small"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setenv("TASKGROUP_HOME", str(tmp_path))
    command = [sys.executable, "-m", "taskgroup"]
    worker = subprocess.Popen(
        [*command, "worker", str(run), "--wait", "2m"], stderr=subprocess.PIPE, text=True
    )
    conductor = subprocess.Popen(
        [*command, "run", str(file), "--quiet"], stderr=subprocess.PIPE, text=True
    )
    name = f"{socket.gethostname()}-{worker.pid}"

    def keys_of_worker() -> list[str]:
        keys = []
        for path in (run / "claims").glob("*.*"):
            claim = newest_claim(run, path.stem)
            if claim is not None and claim.owner == name:
                keys.append(claim.key)
        return keys

    def is_stopped_in_a_training() -> bool:
        worker.send_signal(signal.SIGSTOP)
        if keys_of_worker():
            return True
        worker.send_signal(signal.SIGCONT)
        return False

    wait_for(is_stopped_in_a_training)
    stalled_keys = keys_of_worker()
    # As if it had been silent for two minutes.
    os.utime(run / "workers" / name, (time.time() - 120,) * 2)
    _, errors = conductor.communicate(timeout=240)
    assert conductor.returncode == 0, errors
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/*") if path.is_file()}
    worker.send_signal(signal.SIGCONT)
    _, errors = worker.communicate(timeout=120)
    assert (worker.returncode, "Traceback" in errors) == (0, False), errors
    for key in stalled_keys:
        path = run / "predictions" / f"{key}.npy"
        assert path.stat().st_mtime_ns == before[path]
    keys = keys_of_results(run)
    assert len(keys) == len(set(keys))
    assert set(stalled_keys) <= set(keys)


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_five_processes_train_no_network_twice(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promise, storage: str
):
    overrides = ["space.training.epochs=8", "search.n_trials=16", "refit.top=1"]
    if storage == "journal":
        overrides.append(f"storage=journal:{tmp_path / 'j.log'}")
    config = make_config(*overrides)
    file, run = tmp_path / "small.yaml", tmp_path / "runs" / "small"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setenv("TASKGROUP_HOME", str(tmp_path))
    command = [sys.executable, "-m", "taskgroup"]
    workers = [
        subprocess.Popen([*command, "worker", str(run), "--wait", "5m", "--quiet"])
        for _ in range(4)
    ]
    conductor = subprocess.run([*command, "run", str(file), "--quiet"], check=False)
    codes = [worker.wait(120) for worker in workers]
    assert (conductor.returncode, codes) == (0, [0] * 4)
    keys = keys_of_results(run)
    doubled = len(keys) - len(set(keys))
    promise(
        "processes of one run train no network at the same time",
        f"5 processes, {storage}, {len(keys)} trainings",
        doubled=doubled,
    )
    assert doubled <= len(keys) / 100
