"""Real studies whose processes are killed, whose database goes away and whose disk is full."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from taskgroup.execution.failures import read_failures
from taskgroup.tracking import read_final, read_records

pytestmark = pytest.mark.faults

N_TRIALS = 8
LONGEST = 600  # seconds after which a study is taken for hung


class RealStudy:
    """A small study run by processes of its own."""

    def __init__(self, make_config: Callable, home: Path, *overrides: str) -> None:
        config = make_config(f"search.n_trials={N_TRIALS}", "refit.top=1", *overrides)
        self.home = home
        self.file = home / "small.yaml"
        self.file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
        self.folder = home / "runs" / "small"
        self.said = ""
        self.hangs = 0

    def start(self, limit: Callable[[], None] | None = None) -> subprocess.Popen:
        verb, what = "run", self.file
        if (self.folder / "study.json").exists():
            verb, what = "resume", self.folder
        return subprocess.Popen(
            [sys.executable, "-m", "taskgroup", verb, str(what)],
            env=os.environ | {"TASKGROUP_HOME": str(self.home), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=limit,
        )

    def end(self, process: subprocess.Popen) -> int:
        """Wait for a process and return its exit code."""
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            self.hangs += 1
            process.kill()
            said, _ = process.communicate()
        self.said += said
        return process.returncode

    def keys(self) -> list[str]:
        keys = []
        for path in (self.folder / "results").glob("*.jsonl"):
            for line in path.read_text().splitlines():
                keys.append(json.loads(line)["key"])
        return keys

    def counts(self, before: set[str] = frozenset()) -> dict[str, int]:
        """Return what the table shows; ``before`` are keys of results that were there at some time."""
        keys = self.keys()
        return {
            "lost": len(before - set(keys)),
            "doubled": len(keys) - len(set(keys)),
            "tracebacks": self.said.count("Traceback"),
            "hangs": self.hangs,
        }


def is_whole(study: RealStudy) -> bool:
    records = [r for r in read_records(study.folder) if r.kind in ("baseline", "trial")]
    return read_final(study.folder) is not None and len(records) == N_TRIALS


def wait_for_results(study: RealStudy, count: int, process: subprocess.Popen) -> None:
    while process.poll() is None:
        if (study.folder / "results").exists() and len(study.keys()) >= count:
            return
        time.sleep(0.02)


def test_a_study_that_is_killed_over_and_over(make_config, tmp_path: Path, promise):
    study = RealStudy(make_config, tmp_path, "executor.kind=process", "space.training.epochs=20")
    chance = random.Random(0)
    seen: set[str] = set()
    n_kills = 0
    while n_kills < 20:
        process = study.start()
        # A little further each time, so that the whole study is covered.
        wait_for_results(study, len(seen) + 1, process)
        time.sleep(chance.uniform(0, 1))
        if process.poll() is not None:
            study.end(process)
            break
        process.send_signal(signal.SIGKILL)
        study.end(process)
        n_kills += 1
        if (study.folder / "results").exists():
            seen |= set(study.keys())
    assert study.end(study.start()) == 0, study.said
    counts = study.counts(seen)
    promise("a kill loses and doubles nothing", f"{n_kills} SIGKILLs of the conductor", **counts)
    assert is_whole(study)
    assert counts == {"lost": 0, "doubled": 0, "tracebacks": 0, "hangs": 0}


def test_trainers_that_are_killed_in_the_refit(make_config, tmp_path: Path, promise):
    study = RealStudy(make_config, tmp_path, "executor.kind=process", "space.training.epochs=60")
    process = study.start()
    n_kills = 0
    while process.poll() is None and n_kills < 4:
        time.sleep(0.1)
        if not (study.folder / "networks").exists():
            continue
        for child in psutil.Process(process.pid).children():
            if "run_worker" in " ".join(child.cmdline()):
                child.kill()
                n_kills += 1
                time.sleep(1)
    assert study.end(process) == 0, study.said
    counts = study.counts()
    promise("a trainer killed in the refit is retried", f"{n_kills} SIGKILLs of trainers", **counts)
    assert counts == {"lost": 0, "doubled": 0, "tracebacks": 0, "hangs": 0}
    assert n_kills > 0
    assert {failed.kind for failed in read_failures(study.folder)} == {"signal"}
    assert is_whole(study)


@pytest.mark.parametrize("seconds", [60])
def test_postgresql_that_is_away_in_the_middle_of_a_study(
    make_config, tmp_path: Path, postgres, promise, seconds: int
):
    study = RealStudy(make_config, tmp_path, f"storage={postgres.url()}", "name=small")
    process = study.start()
    wait_for_results(study, 3, process)
    seen = set(study.keys())
    postgres.stop()
    time.sleep(seconds)
    postgres.start()
    assert study.end(process) == 0, study.said
    counts = study.counts(seen)
    promise("a database that is away is waited for", f"PostgreSQL away for {seconds} s", **counts)
    assert "back after" in study.said
    assert is_whole(study)
    assert counts == {"lost": 0, "doubled": 0, "tracebacks": 0, "hangs": 0}


@pytest.mark.parametrize("kilobytes", [1, 40, 130, 400])
@pytest.mark.parametrize("kind", ["inline", "process"])
def test_a_disk_that_is_full(make_config, tmp_path: Path, promise, kilobytes: int, kind: str):
    study = RealStudy(make_config, tmp_path, f"executor.kind={kind}")

    def limit() -> None:
        size = kilobytes * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code = study.end(study.start(limit))
    said = study.said
    seen = set(study.keys()) if (study.folder / "results").exists() else set()
    assert study.end(study.start()) == 0, study.said
    counts = study.counts(seen)
    promise(
        "a full disk is one line and exit code 1, or MLflow alone lags behind; the run goes on later",
        f"files limited to {kilobytes} KB, {kind}",
        **counts,
    )
    # MLflow alone is not worth the study: it is brought up to date later.
    assert code == 1 or "MLflow" in said, said
    assert is_whole(study)
    assert counts == {"lost": 0, "doubled": 0, "tracebacks": 0, "hangs": 0}
