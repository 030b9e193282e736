"""Verbs that look after a run: failures, sync."""

import json
from pathlib import Path

import pytest

from taskgroup.cli import main
from taskgroup.execution.executor import Failure
from taskgroup.execution.failures import append_failure
from taskgroup.grouping import Grouping
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.study.conduct import study_record
from taskgroup.tracking import Tracker, TrialRecord, append_record, write_study
from taskgroup.tracking.mlflow_client import child_runs, connect


@pytest.fixture
def run(make_config, tmp_path: Path) -> Path:
    """A run folder with one finished trial, one that failed, and two failed trainings."""
    config = make_config()
    data = StudyData(config)
    folder = tmp_path / "run"
    folder.mkdir()
    write_study(folder, study_record(config, data, "running"))
    _, model, training = settings_of(config.space.baseline())
    plan = Plan.uniform(Grouping.singles(["level", "spread"]), Recipe(model, training))
    first, second = data.jobs(plan, [(0, 1)]).values()
    for number, keys in enumerate([(first.key,), ()]):
        record = TrialRecord(
            number=number,
            kind="trial",
            name=f"trial-{number}",
            grouping=plan.grouping,
            objective=None if number else 0.5,
            skills={} if number else {"level": 0.5},
            gains={},
            settings={},
            state="FAIL" if number else "COMPLETE",
            fail_kind="error" if number else None,
            fail_reason="no such clusterer" if number else None,
            keys=keys,
            n_cached=0,
            seconds=1.0,
        )
        append_record(folder, record)
    append_failure(folder, first, Failure("signal", "worker ended by SIGKILL", "log/worker-0.log"))
    append_failure(folder, second, Failure("nan", "loss is NaN"))
    return folder


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def test_failures_name_kind_trial_reason_and_log(run: Path, capsys: pytest.CaptureFixture):
    assert call("failures", run, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["trial"], row["targets"], row["log"]) for row in rows] == [
        ("signal", "trial-0", ["level"], "log/worker-0.log"),
        ("nan", "refit", ["spread"], ""),
        ("error", "trial-1", [], ""),
    ]
    assert call("failures", run) == 0
    assert "worker ended by SIGKILL" in capsys.readouterr().out
    (run / "failures.jsonl").write_text("torn")
    assert call("failures", run, "--json") == 0


def test_sync_mends_what_a_killed_process_or_server_left(run: Path, capsys: pytest.CaptureFixture):
    tracker = Tracker(run, "small")
    tracker.sync()
    client = connect(tracker.uri)
    experiment = client.get_run(tracker.parent_run_id).info.experiment_id
    # As a kill leaves it: the parent runs, and so does a run that was begun.
    tags = {"mlflow.parentRunId": tracker.parent_run_id, "kind": "trial", "trial": "1"}
    half_written = client.create_run(experiment, tags=tags).info.run_id
    assert call("sync", run, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"records": 2, "mended": 1}
    assert client.get_run(half_written).info.lifecycle_stage == "deleted"
    parent = client.get_run(tracker.parent_run_id)
    assert (parent.info.status, parent.data.tags["state"]) == ("KILLED", "interrupted")
    runs = list(child_runs(client, experiment, tracker.parent_run_id))
    assert sorted(each.data.tags["name"] for each in runs) == ["trial-0", "trial-1"]
    assert {each.info.status for each in runs} == {"FINISHED", "FAILED"}


def test_sync_says_that_the_server_is_away(
    run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (run / "mlflow.json").write_text(
        json.dumps({"uri": "http://127.0.0.1:9", "experiment_id": "1", "run_id": "x"})
    )
    assert call("sync", run) == 1
    assert "MLflow at http://127.0.0.1:9 does not answer" in capsys.readouterr().err
