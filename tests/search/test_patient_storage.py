"""A database that is away or locked for a while: waited for, with one line in the log, and nothing is made twice."""

import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from taskgroup.errors import ConfigError, TaskgroupError
from taskgroup.search import storage as storage_module
from taskgroup.search.patient_storage import PatientStorage
from taskgroup.search.storage import TrialStorage
from taskgroup.spec.config import StudyConfig


@pytest.fixture
def open_storage() -> Iterator[Callable[..., TrialStorage]]:
    """Opens storages; their connections are closed after the test, as a study does."""
    opened = []

    def open_one(config: StudyConfig, folder: Path) -> TrialStorage:
        opened.append(TrialStorage.open(config, folder))
        return opened[-1]

    yield open_one
    for storage in opened:
        storage.disconnect()


def later(seconds: float, call: Callable[[], None]) -> threading.Thread:
    """Call something in a while; the caller joins the thread."""
    thread = threading.Timer(seconds, call)
    thread.start()
    return thread


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def run_trials(storage: TrialStorage, n_trials: int) -> None:
    for value in range(n_trials):
        number = storage.add_running({}, {}, {"owner": "me"})
        storage.close(number, TrialState.COMPLETE, value)


def test_every_method_of_a_storage_is_patient():
    own = {name for name in vars(PatientStorage) if not name.startswith("_")}
    required = set(optuna.storages.BaseStorage.__abstractmethods__)
    assert required <= own


def test_postgresql_that_is_away_is_waited_for(
    make_config: Callable,
    open_storage: Callable,
    tmp_path: Path,
    postgres,
    caplog: pytest.LogCaptureFixture,
):
    config = make_config(f"storage={postgres.url()}", "name=away")
    storage = open_storage(config, tmp_path)
    run_trials(storage, 1)
    number = storage.add_running({}, {}, {})
    postgres.stop()
    restart = later(2.0, postgres.start)
    # Creating a trial is also tried again by Optuna, which would hide the outage.
    storage.close(number, TrialState.COMPLETE, 0.5)
    restart.join()
    run_trials(storage, 1)
    assert [trial.state for trial in storage.trials()] == [TrialState.COMPLETE] * 3
    away, back = warnings(caplog)
    assert "away, waiting up to 600 s: " in away
    assert "back after" in back
    assert "\n" not in away + back


def test_postgresql_that_stays_away_ends_the_search_in_one_line(
    make_config: Callable, open_storage: Callable, tmp_path: Path, postgres
):
    config = make_config(f"storage={postgres.url()}", "name=gone", "search.storage_wait=1s")
    storage = open_storage(config, tmp_path)
    postgres.stop()
    with pytest.raises(
        TaskgroupError, match=r"away for \d s, longer than search.storage_wait"
    ) as e:
        run_trials(storage, 1)
    assert "\n" not in str(e.value)
    with pytest.raises(ConfigError, match=r"storage: cannot use 'postgresql://.*: ") as unreachable:
        TrialStorage.open(config, tmp_path)
    assert "\n" not in str(unreachable.value)
    postgres.start()
    wrong = make_config(f"storage={postgres.url('nowhere')}")
    with pytest.raises(ConfigError, match='database "nowhere" does not exist') as missing:
        TrialStorage.open(wrong, tmp_path)
    assert "\n" not in str(missing.value)


def test_a_driver_that_is_missing_is_named_with_what_to_install(
    make_config: Callable, open_storage: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    config = make_config("storage=postgresql+psycopg://me:secret@localhost/optuna")
    with pytest.raises(ConfigError, match=r"pip install 'taskgroup-materials\[postgresql\]'") as e:
        TrialStorage.open(config, tmp_path)
    assert "secret" not in str(e.value)
    assert "\n" not in str(e.value)


def test_a_locked_sqlite_file_is_waited_for(
    make_config: Callable,
    open_storage: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(storage_module, "_SQLITE_WAIT", 0.1)
    storage = open_storage(make_config(), tmp_path)
    number = storage.add_running({}, {}, {})
    other = sqlite3.connect(tmp_path / "optuna.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    unlock = later(1.5, other.rollback)
    started = time.monotonic()
    storage.close(number, TrialState.COMPLETE, 0.5)
    storage.flush()
    assert time.monotonic() - started > 1
    unlock.join()
    other.close()
    assert [trial.state for trial in storage.trials()] == [TrialState.COMPLETE]
    assert len(warnings(caplog)) == 2


def test_what_waiting_cannot_mend_ends_at_once(
    make_config: Callable, open_storage: Callable, tmp_path: Path
):
    storage = open_storage(make_config(), tmp_path)
    full = sqlalchemy.exc.OperationalError(
        "INSERT", {}, sqlite3.OperationalError("database or disk is full")
    )

    def fail(*_: object) -> None:
        raise full

    patient = PatientStorage(storage.study._storage, "sqlite:///x", None)
    with pytest.raises(TaskgroupError, match="database or disk is full"):
        patient.patiently(fail)


def test_a_trial_whose_creation_was_not_answered_is_not_made_twice(
    make_config: Callable, open_storage: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage = open_storage(make_config(), tmp_path)
    inside = storage._storage.inside
    create = inside.create_new_trial
    answers = iter([False, True])

    def lose_the_first_answer(*arguments: object) -> int:
        trial_id = create(*arguments)
        if not next(answers):
            lost = sqlite3.OperationalError("database is locked")
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, lost)
        return trial_id

    monkeypatch.setattr(inside, "create_new_trial", lose_the_first_answer)
    assert [storage.add_running({}, {}, {}), storage.add_running({}, {}, {})] == [0, 1]
    assert len(storage.trials()) == 2
