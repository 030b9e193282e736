"""Finding what is damaged in a run folder, and mending it: what can be trained or made again is removed.

After a repair ``taskgroup resume`` goes on. Damaged files are kept beside their places with the ending ``.damaged``,
where they may still be worth something to a person.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from taskgroup.errors import RunError
from taskgroup.execution.results import network_path, prediction_path
from taskgroup.files import held_lock, write_text
from taskgroup.spec.plan import MEMBER_SEEDS
from taskgroup.tracking import TrialRecord, read_final, read_study, record_files
from taskgroup.training import GroupResult

_DAMAGED = ".damaged"


def examine_run(folder: Path, *, repair: bool = False) -> list[str]:
    """Return one sentence for each damage of a run folder; with ``repair`` mend it too.

    Raises RunError: ``study.json`` cannot be read, without which there is no run; or another process works on the run.
    """
    busy = f"{folder}: another process is working on this run; wait for it or stop it first"
    with held_lock(folder / "lock", busy):
        read_study(folder)
        return _Examination(folder, repair).run()


class _Examination:
    """One look at all files of a run."""

    def __init__(self, folder: Path, repair: bool) -> None:
        self._folder = folder
        self._repair = repair
        self._findings: list[str] = []

    def run(self) -> list[str]:
        """Return the findings, in the order in which the files depend on each other."""
        for path in record_files(self._folder):
            self._check_lines(path, _is_record, "its trial is lost and run again")
        for path in sorted((self._folder / "results").glob("*.jsonl")):
            self._check_lines(path, self._is_whole_result, "its network is trained again")
        self._check_final()
        self._check_database("optuna.db", ())
        self._check_database("mlflow.db", ("mlflow.json",))
        return self._findings

    def _check_lines(self, path: Path, is_good: Callable[[str], bool], consequence: str) -> None:
        """Remove the lines of a file that are damaged, or whose files are."""
        good_lines = []
        n_bad = 0
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.strip():
                continue
            if is_good(line):
                good_lines.append(line)
                continue
            n_bad += 1
            self._findings.append(
                f"{path.name} line {len(good_lines) + n_bad}: damaged; {consequence}"
            )
        if n_bad and self._repair:
            self._set_aside(path)
            write_text(path, "".join(f"{line}\n" for line in good_lines))

    def _is_whole_result(self, line: str) -> bool:
        """Return whether a result and the files that belong to it can be read."""
        try:
            result = GroupResult.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        if not _is_array(prediction_path(self._folder, result.key)):
            return False
        network = network_path(self._folder, result.key)
        must_exist = result.job.seed >= MEMBER_SEEDS
        return _is_network(network) if network.exists() else not must_exist

    def _check_final(self) -> None:
        try:
            read_final(self._folder)
        except RunError:
            self._findings.append("final.json: damaged; the choice is made again")
            if self._repair:
                self._set_aside(self._folder / "final.json")

    def _check_database(self, name: str, companions: Iterable[str]) -> None:
        """Set a database aside that SQLite cannot read, and the files that refer to it."""
        path = self._folder / name
        if not path.exists() or _is_database(path):
            return
        self._findings.append(f"{name}: damaged; it is made again from the records of the run")
        if not self._repair:
            return
        for each in (name, f"{name}-wal", f"{name}-shm", f"{name}-journal", *companions):
            if (self._folder / each).exists():
                self._set_aside(self._folder / each)

    def _set_aside(self, path: Path) -> None:
        os.replace(path, path.with_name(path.name + _DAMAGED))


def _is_record(line: str) -> bool:
    try:
        TrialRecord.from_dict(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _is_array(path: Path) -> bool:
    try:
        np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _is_network(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if not np.isfinite(file.get_tensor(name)).all():
                    return False
    except (OSError, SafetensorError):
        return False
    return True


def _is_database(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError:
        return False
    return answer == "ok"
