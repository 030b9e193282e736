"""MLflow holds what the run folder holds: once, whole, and never at the price of a trial."""

import json
import logging
import math
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from taskgroup.tracking import (
    FinalRecord,
    Interval,
    Tracker,
    append_record,
    leaderboard,
    read_study,
    rows_from_mlflow,
    tracking_uri,
    write_study,
)
from taskgroup.tracking.mlflow_client import child_runs, connect, slugs
from taskgroup.tracking.report import report_html


def children(tracker: Tracker) -> list:
    client = connect(tracker.uri)
    parent = client.get_run(tracker.parent_run_id)
    return list(child_runs(client, parent.info.experiment_id, parent.info.run_id))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def make_run(make_run, empty_database):
    """Creating MLflow's tables takes seconds: every run starts from a copy of an empty database."""

    def make(records, name: str = "demo") -> Path:
        folder = make_run(records, name)
        shutil.copy(empty_database, folder / "mlflow.db")
        return folder

    return make


@pytest.fixture
def tracker(run) -> Tracker:
    tracker = Tracker(run)
    tracker.sync()
    return tracker


def test_mlflow_read_back_agrees_with_the_leaderboard(tracker, records) -> None:
    fields = ("name", "kind", "state", "grouping_id", "objective", "skills", "gains")
    ours = {row["name"]: {name: row[name] for name in fields} for row in leaderboard(records)}
    theirs = {
        row["name"]: {name: row[name] for name in fields}
        for row in rows_from_mlflow(tracker.uri, tracker.parent_run_id)
    }
    assert theirs == ours


def test_a_resumed_study_goes_on_in_the_same_run_and_logs_nothing_twice(
    tracker, run, records, make_record
) -> None:
    tracker.close("interrupted")
    append_record(run, make_record(7))
    again = Tracker(run)
    again.sync()
    again.sync()
    assert again.parent_run_id == tracker.parent_run_id
    names = [child.info.run_name for child in children(again)]
    assert sorted(names) == sorted([*(record.name for record in records), make_record(7).name])


def test_a_run_folder_that_moved_goes_on_in_its_own_database(tracker, run, records) -> None:
    moved = run.rename(run.with_name("moved"))
    again = Tracker(moved)
    again.sync()
    assert again.parent_run_id == tracker.parent_run_id
    assert len(children(again)) == len(records)
    assert tracking_uri(moved) == f"sqlite:///{moved / 'mlflow.db'}"


def test_a_trial_half_logged_by_a_killed_process_is_logged_again(tracker, run, records) -> None:
    client = connect(tracker.uri)
    victim = next(child for child in children(tracker) if child.info.run_name == records[1].name)
    client.update_run(victim.info.run_id, status="RUNNING")
    Tracker(run).sync()
    runs = [child for child in children(tracker) if child.info.run_name == records[1].name]
    assert [child.info.status for child in runs] == ["FINISHED"]
    assert runs[0].info.run_id != victim.info.run_id


def test_an_unreachable_server_costs_a_warning_and_is_made_up_for(
    run, records, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Tracker(run, uri="http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "taskgroup.tracking"):
        for record in records:
            away.log_trial(record)
    assert away.parent_run_id == ""
    assert (
        len([r for r in caplog.records if "will be sent again" in r.message]) == 1
    )  # one, then a pause
    back = Tracker(run)
    back.log_trial(records[1])
    back.close()
    assert len(children(back)) == len(records)


def test_a_kill_while_the_tables_are_made_leaves_no_half_database(run, records) -> None:
    (run / "mlflow.db").unlink()
    script = "import sys; from taskgroup.tracking import Tracker; Tracker(sys.argv[1]).sync()"
    process = subprocess.Popen([sys.executable, "-c", script, str(run)])
    while not list(run.glob("mlflow*.draft")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not (run / "mlflow.db").exists()
    tracker = Tracker(run)
    tracker.sync()
    assert len(children(tracker)) == len(records)


def test_a_database_that_cannot_be_opened_costs_a_warning(run, caplog) -> None:
    (run / "mlflow.db").write_bytes(b"SQLite format 3" + b"?" * 5000)
    with caplog.at_level(logging.WARNING):
        Tracker(run).sync()
    assert "did not take a record" in caplog.text


def test_artifacts_lie_in_the_run_folder_whatever_database_is_used(
    run, records, tmp_path, monkeypatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    tracker = Tracker(run, uri=f"sqlite:///{run / 'mlflow.db'}")
    tracker.log_trial(records[0])
    assert list((run / "mlartifacts").rglob("record.json"))
    assert not list(elsewhere.iterdir())


def test_infinite_and_missing_numbers_are_not_logged(make_run, make_record) -> None:
    odd = make_record(
        0,
        objective=-math.inf,
        skills={"density": math.nan, "volume": None, "band_gap": 0.5},
        gains={},
    )
    tracker = Tracker(make_run([]))
    tracker.log_trial(odd)
    metrics = children(tracker)[0].data.metrics
    assert "objective" not in metrics
    assert {name for name in metrics if name.startswith("val/")} == {"val/band_gap/skill"}
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_layout_of_a_trial_is_the_documented_one(tracker, records) -> None:
    child = next(c for c in children(tracker) if c.data.tags["name"] == "trial-1")
    assert child.data.params == {"hp/training.lr": "0.001", "grouping/method": "louvain"}
    expected = {"objective", "gain/mean", "gain/min", "gain/density", "n_negative_transfer", "val/density/skill",
                "val/density/mae", "cost/seconds", "cost/n_networks", "cost/n_cached", "curve/volume"}  # fmt: skip
    assert expected <= set(child.data.metrics)
    history = connect(tracker.uri).get_metric_history(child.info.run_id, "curve/volume")
    assert [(point.step, round(point.value, 6)) for point in history] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]
    failed = next(c for c in children(tracker) if c.data.tags["name"] == "trial-2")
    assert failed.data.tags["fail_kind"] == "nan"
    assert failed.info.status == "FAILED"
    pruned = next(c for c in children(tracker) if c.data.tags["name"] == "trial-3")
    assert (pruned.info.status, pruned.data.tags["state"]) == ("FINISHED", "PRUNED")


def test_test_values_of_a_refit_do_not_compete_with_validation_values(tracker) -> None:
    refit = next(c for c in children(tracker) if c.data.tags["kind"] == "refit")
    assert "objective" not in refit.data.metrics
    assert refit.data.metrics["test/objective"] == 0.75
    best = connect(tracker.uri).get_run(tracker.parent_run_id).data.metrics["best/objective"]
    assert best == 0.65


def test_a_setting_too_long_for_a_parameter_is_whole_in_the_artifact(
    make_run, make_record, tmp_path
) -> None:
    long = list(range(2000))
    tracker = Tracker(make_run([]))
    tracker.log_trial(make_record(0, settings={"hp/long": long, "hp/short": 1}))
    child = children(tracker)[0]
    assert set(child.data.params) == {"hp/short"}
    path = connect(tracker.uri).download_artifacts(child.info.run_id, "record.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["settings"]["hp/long"] == long


def test_the_final_choice_and_the_leaderboard_lie_on_the_parent(tracker, records, tmp_path) -> None:
    final = FinalRecord(
        records[5].grouping, "assembled-2", 0.65, Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.4, 0.7),
        {"density": Interval(0.1, -0.1, 0.3, 3)}, {"density": {"n": 10, "mae": 0.2, "skill": 0.5}},
    )  # fmt: skip
    tracker.log_final(final)
    tracker.close()
    client = connect(tracker.uri)
    parent = client.get_run(tracker.parent_run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["final/reevaluation/high"] == 0.7
    assert parent.data.metrics["test/density/mae"] == 0.2
    path = client.download_artifacts(parent.info.run_id, "leaderboard.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["rows"] == leaderboard(records)


def test_a_refit_run_carries_the_bundle(tracker, make_record, tmp_path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    tracker.log_refit(make_record(1, "refit", 0.7), bundle)
    run = next(c for c in children(tracker) if c.data.tags["name"] == "refit-1")
    assert (
        connect(tracker.uri).list_artifacts(run.info.run_id, "bundle")[0].path
        == "bundle/bundle.json"
    )


def test_the_final_choice_becomes_a_refit_run_with_the_exported_bundle_once(
    make_run, make_record
) -> None:
    run = make_run([])
    (run / "export").mkdir()
    (run / "export" / "bundle.json").write_text("{}")
    final = FinalRecord(
        make_record(0).grouping, "assembled-2", 0.65, Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.4, 0.7), {},
        {"density": {"n": 10, "mae": 0.2, "skill": 0.5, "gain": 0.1}},
    )  # fmt: skip
    for tracker in (Tracker(run), Tracker(run)):
        tracker.log_final(final)
    (refit,) = children(tracker)
    assert refit.data.tags["kind"] == "refit"
    assert refit.data.metrics["test/density/mae"] == 0.2
    assert refit.data.metrics["test/objective"] == 0.55
    assert refit.data.metrics["gain/density"] == 0.1
    assert (
        connect(tracker.uri).list_artifacts(refit.info.run_id, "bundle")[0].path
        == "bundle/bundle.json"
    )


def test_runs_have_the_times_of_their_trials(tracker, records) -> None:
    for child in children(tracker):
        (record,) = [record for record in records if record.name == child.info.run_name]
        end = datetime.fromisoformat(record.time).timestamp() * 1000
        assert child.info.end_time == end
        assert child.info.start_time == end - record.seconds * 1000


def test_the_chosen_run_is_tagged_and_the_parent_holds_the_verdict(tracker, records) -> None:
    final = FinalRecord(
        records[5].grouping, records[5].name, 0.65, Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.4, 0.7), {}, {},
        test_gain=Interval(0.02, 0.01, 0.03, 1000),
    )  # fmt: skip
    tracker.log_final(final)
    chosen = [c.info.run_name for c in children(tracker) if c.data.tags.get("chosen") == "true"]
    assert chosen == [records[5].name]
    parent = connect(tracker.uri).get_run(tracker.parent_run_id)
    assert parent.data.tags["chosen"] == records[5].name
    assert "joining helps" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["final/test_gain/low"] == 0.01


def test_a_run_of_an_older_version_is_not_logged_again_under_its_new_name(tracker, run) -> None:
    client = connect(tracker.uri)
    for child in children(tracker):
        client.update_run(child.info.run_id, name=f"t000-{child.info.run_name}")
    Tracker(run).sync()
    assert all(child.info.run_name.startswith("t000-") for child in children(tracker))


def test_paths_may_hold_any_character(make_run, records) -> None:
    run = make_run(records, "what? #1 50%20 %41")
    tracker = Tracker(run)
    tracker.sync()
    assert (run / "mlflow.db").exists()
    assert len(children(tracker)) == len(records)
    path = connect(tracker.uri).download_artifacts(tracker.parent_run_id, "labels.json")
    assert Path(path).is_file()
    assert sorted(p.name for p in run.parent.iterdir()) == [run.name]


SECRET = "very-secret"


def test_no_password_reaches_mlflow(make_run, make_record) -> None:
    run = make_run(
        [make_record(0, objective=None, state="FAIL", fail_kind="error",
                     fail_reason=f"cannot reach postgresql://me:{SECRET}@host/db")]
    )  # fmt: skip
    study = read_study(run)
    config = study.config | {
        "storage": f"postgresql://me:{SECRET}@host/db",
        "tracking": {"uri": f"https://me:{SECRET}@host"},
    }
    write_study(run, type(study)(**(vars(study) | {"config": config})))
    tracker = Tracker(run)
    tracker.sync()
    tracker.close()
    parent = connect(tracker.uri).get_run(tracker.parent_run_id)
    assert parent.data.params["study/storage"] == "postgresql://me:***@host/db"
    for run_info in (parent, *children(tracker)):
        assert SECRET not in str(run_info.to_dictionary())
    for path in (run / "mlartifacts").rglob("*.json"):
        assert SECRET not in path.read_text(), path
    assert SECRET not in report_html(run)
    assert SECRET not in (run / "mlflow.json").read_text()


def test_a_server_with_a_password_is_remembered_and_named_without_it(
    run, records, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(run, uri=f"http://me:{SECRET}@127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "taskgroup.tracking"):
        tracker.log_trial(records[0])
    assert "will be sent again" in caplog.text
    assert SECRET not in caplog.text


def test_nothing_is_printed_on_standard_output(run, capfd) -> None:
    tracker = Tracker(run)
    tracker.sync()
    tracker.close()
    assert capfd.readouterr().out == ""


def test_names_mlflow_refuses_become_distinct_slugs() -> None:
    names = ["E (eV)", "E [eV]", "mean", "Å", "a.b", "a_b", "volume"]
    found = slugs(names)
    assert len(set(found.values())) == len(names)
    assert found["volume"] == "volume"
    assert found["mean"] != "mean"
    assert found == slugs(reversed(names))
    assert all(slug.replace("_", "").replace("-", "").isascii() for slug in found.values())


def test_the_tracking_room_does_not_import_mlflow_until_it_logs() -> None:
    code = "import sys, taskgroup.tracking; sys.exit('mlflow' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
