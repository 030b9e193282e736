"""The Optuna storage of a study: where it lies, what is refused, and trials that a kill left running."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from taskgroup.errors import ConfigError, RunError
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.search.storage import TrialStorage, open_storage, searched_space
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.study.conduct import study_record
from taskgroup.urls import sqlite_url

SECRET = "planted-5ecret"

NAMES = st.text(
    st.characters(blacklist_characters="/\x00", blacklist_categories=("Cs", "Cc")),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in (".", ".."))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(NAMES)
@example("what?")
@example("a%20b")
@example("#1 {x}")
def test_the_database_lies_in_the_run_folder_whatever_its_name(
    make_config: Callable, tmp_path_factory: pytest.TempPathFactory, name: str
):
    outer = tmp_path_factory.mktemp("odd")
    folder = outer / name
    folder.mkdir()
    TrialStorage.open(make_config(), folder).enqueue_baselines(make_config())
    assert [path.name for path in outer.iterdir()] == [name]
    assert "optuna.db" in {path.name for path in folder.iterdir()}
    assert len(TrialStorage.open(make_config(), folder).trials()) == 4


def test_a_relative_journal_is_the_same_file_from_every_working_directory(
    make_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    config = make_config("storage=journal:search.journal")
    assert config.storage == f"journal:{tmp_path / 'one' / 'search.journal'}"
    TrialStorage.open(config, tmp_path).enqueue_baselines(config)
    stored = study_record(config, StudyData(config), "running").config
    monkeypatch.chdir(tmp_path / "other")
    again = Study(make_config(f"storage={stored['storage']}")).config
    assert len(TrialStorage.open(again, tmp_path).trials()) == 4
    assert not list((tmp_path / "other").iterdir())


def test_a_missing_driver_is_one_line_that_names_the_package(make_config: Callable, tmp_path: Path):
    config = make_config(f"storage=mysql+pymysql://user:{SECRET}@localhost/optuna")
    with pytest.raises(ConfigError, match=r"pip install 'PyMySQL'") as refused:
        open_storage(config, tmp_path)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (f"nosuchdb://user:{SECRET}@localhost/optuna", "a database that is not known"),
        (f"postgresql://user:{SECRET}@host:port/optuna", "a database URL is like"),
        ("sqlite:////no/such/folder/optuna.db", "unable to open database file"),
        ("journal:/no/such/folder/search.journal", "No such file or directory"),
        ("nonsense", "a database URL is like"),
        ("env:NO_SUCH_VARIABLE", "which is not set"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(
    make_config: Callable, tmp_path: Path, storage: str, message: str
):
    with pytest.raises(ConfigError, match=message) as refused:
        open_storage(make_config(f"storage={storage}"), tmp_path)
    assert str(refused.value).startswith("storage: ")
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_password_stands_nowhere_in_the_run_folder(
    make_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # No server here: an SQLite file stands in for the database that the URL names.
    url = f"postgresql://me:{SECRET}@database/optuna"
    here = sqlite_url(tmp_path / "optuna.db")
    monkeypatch.setattr("taskgroup.search.storage.database_url", lambda setting, url: here)
    config = make_config(f"storage={url}", "search.n_trials=4", "refit.top=1")
    study = Study(config, tmp_path / "runs" / "small").run()
    stored = json.loads((study.folder / "study.json").read_text())["config"]["storage"]
    assert stored == "postgresql://me:***@database/optuna"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_url_from_the_environment_is_stored_by_its_name(
    make_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_STORAGE", f"journal:{tmp_path / 'search.journal'}")
    config = make_config("storage=env:MY_STORAGE")
    TrialStorage.open(config, tmp_path).enqueue_baselines(config)
    assert (tmp_path / "search.journal").exists()
    record = study_record(config, StudyData(config), "running")
    assert record.config["storage"] == "env:MY_STORAGE"


def test_baselines_are_queued_once_in_their_order(make_config: Callable, tmp_path: Path):
    config = make_config()
    storage = TrialStorage.open(config, tmp_path)
    storage.enqueue_baselines(config)
    storage.enqueue_baselines(config)
    waiting = storage.trials(TrialState.WAITING)
    names = [trial.user_attrs["name"] for trial in waiting]
    assert names == ["singles", "together", "correlation", "random"]
    methods = [
        storage.study.ask().suggest_categorical("grouping.method", _methods(config)) for _ in names
    ]
    assert methods == ["singles", "together", "louvain", "random"]


def _methods(config) -> list[str]:
    return list(searched_space(config).grouping["method"].choices)


def test_trials_of_another_run_are_refused(make_config: Callable, tmp_path: Path):
    storage = TrialStorage.open(make_config(), tmp_path)
    storage.enqueue_baselines(make_config())
    storage.refuse_another_run(tmp_path)  # queued by a start that was killed: nobody's yet
    storage.study.ask()
    with pytest.raises(RunError, match="holds 1 trials of a study 'small' that another run"):
        storage.refuse_another_run(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    storage.refuse_another_run(tmp_path)


def test_an_interrupted_trial_is_queued_again_once_and_its_first_attempt_closed(
    make_config: Callable, tmp_path: Path
):
    config = make_config()
    storage = TrialStorage.open(config, tmp_path)
    storage.enqueue_baselines(config)
    begun = storage.study.ask()
    with Heartbeat(tmp_path) as peers:
        assert storage.settle_interrupted([], peers) == 1
        assert storage.settle_interrupted([], peers) == 0
    first = storage.trials()[begun.number]
    assert first.state is TrialState.FAIL
    assert first.user_attrs["interrupted"] is True
    retry = storage.trials()[-1]
    assert retry.state is TrialState.WAITING
    assert retry.user_attrs == {"name": "singles", "kind": "baseline", "retry_of": begun.number}


def test_a_kill_between_queueing_again_and_closing_queues_no_second_retry(
    make_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = make_config()
    storage = TrialStorage.open(config, tmp_path)
    storage.enqueue_baselines(config)
    storage.study.ask()

    def killed(*_, **__) -> None:
        raise KeyboardInterrupt

    with Heartbeat(tmp_path) as peers:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "close", killed)
            with pytest.raises(KeyboardInterrupt):
                storage.settle_interrupted([], peers)
        assert storage.settle_interrupted([], peers) == 0
    retries = [trial for trial in storage.trials() if "retry_of" in trial.user_attrs]
    assert len(retries) == 1
    assert storage.trials(TrialState.RUNNING) == []
