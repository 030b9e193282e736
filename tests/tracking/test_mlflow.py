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

import numpy as np
import pytest

from taskgroup.affinity import Affinity
from taskgroup.errors import RunError
from taskgroup.tracking import (
    FinalRecord,
    Interval,
    Tracker,
    append_record,
    leaderboard,
    read_study,
    rows_from_mlflow,
    tracking_uri,
    write_final,
    write_study,
)
from taskgroup.tracking.mlflow_client import child_runs, connect, slugs, uri_of_study
from taskgroup.tracking.mlflow_run import COLUMNS
from taskgroup.tracking.report import report_html
from taskgroup.tracking.transfer_report import MeasureScore, TransferReport, write_transfer


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
    expected = {"objective", "mean_gain", "worst_gain", "gain/density", "negative_transfers", "val/density/skill",
                "val/density/mae", "seconds", "networks", "cost/cached_networks", "curve/volume"}  # fmt: skip
    assert expected <= set(child.data.metrics)
    assert {name for name in child.data.metrics if "/" not in name} <= set(COLUMNS)
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
    assert refit.data.metrics["test_skill"] == 0.75
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
    assert parent.data.metrics["final/new_seed_skill/high"] == 0.7
    assert parent.data.metrics["test/density/mae"] == 0.2
    path = client.download_artifacts(parent.info.run_id, "leaderboard.json", str(tmp_path))
    assert json.loads(Path(path).read_text())["rows"] == leaderboard(records)


@pytest.fixture
def final(records) -> FinalRecord:
    return FinalRecord(
        records[5].grouping, records[5].name, 0.65, Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.4, 0.7),
        {"density": Interval(0.1, -0.1, 0.3, 3)}, {"density": {"n": 10, "mae": 0.2, "skill": 0.5, "gain": 0.1}},
        test_gain=Interval(0.02, 0.01, 0.03, 1000),
    )  # fmt: skip


def chosen_run(tracker: Tracker):
    (run,) = [child for child in children(tracker) if child.data.tags.get("chosen") == "true"]
    return run


def test_the_run_of_the_choice_holds_its_test_values_and_comes_first(
    tracker, run, records, final
) -> None:
    write_final(run, final)
    tracker.log_final(final)
    chosen = chosen_run(tracker)
    assert chosen.info.run_name == records[5].name
    metrics = chosen.data.metrics
    assert (metrics["new_seed_skill"], metrics["test_skill"]) == (0.6, 0.55)
    assert (metrics["test_gain"], metrics["test/density/mae"]) == (0.02, 0.2)
    positions = {c.info.run_name: c.data.metrics.get("position") for c in children(tracker)}
    assert positions[chosen.info.run_name] == 0
    assert positions["trial-1"] == 2
    assert positions["trial-3"] is None
    assert tracker.chosen_run_id == chosen.info.run_id


def test_gains_of_an_assembled_grouping_are_logged_at_once(make_run, records) -> None:
    run = make_run(records[:5])
    tracker = Tracker(run)
    tracker.log_trial(records[5])
    (assembled,) = children(tracker)
    assert assembled.data.metrics["mean_gain"] == pytest.approx(0.65 - 0.4)


def test_the_dataset_is_the_input_of_every_run(tracker) -> None:
    for child in children(tracker):
        (entry,) = child.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("toy", "abc")
        assert "density [GPa]" in entry.dataset.schema


def test_the_view_of_a_study_shows_the_columns_and_is_sorted_by_position_in_the_end(
    tracker, run, final
) -> None:
    def view() -> dict:
        client = connect(tracker.uri)
        experiment_id = client.get_run(tracker.parent_run_id).info.experiment_id
        tags = client.get_experiment(experiment_id).tags
        return json.loads(tags[f"mlflow.sharedViewState.{tracker.parent_run_id}"])

    assert view()["orderByKey"] == "metrics.`objective`"
    tracker.log_final(final)
    assert (view()["orderByKey"], view()["orderByAsc"]) == ("metrics.`position`", True)
    assert {f"metrics.`{name}`" for name in COLUMNS} <= set(view()["selectedColumns"])


def test_a_model_is_logged_once_on_the_run_of_the_choice_and_registered_from_it(
    tracker, run, final
) -> None:
    def save(path: Path) -> None:
        path.mkdir()
        (path / "MLmodel").write_text("flavors: {}\n")

    write_final(run, final)
    tracker.log_final(final)
    with pytest.raises(RunError, match="has no model of this run"):
        tracker.register_model("toy", "what it predicts")
    for again in (tracker, Tracker(run)):
        again.log_model(save)
    chosen = chosen_run(tracker)
    (output,) = chosen.outputs.model_outputs
    client = connect(tracker.uri)
    model = client.get_logged_model(output.model_id)
    assert (model.source_run_id, str(model.status)) == (chosen.info.run_id, "READY")
    assert "test_skill" in {metric.key for metric in model.metrics}
    assert tracker.register_model("toy", "what it predicts") == 1
    version = client.get_model_version_by_alias("toy", "champion")
    assert (version.run_id, version.source) == (chosen.info.run_id, model.artifact_location)
    assert version.description == "what it predicts"
    assert version.tags["test_skill"] == "0.5500"
    versions = json.loads(client.get_logged_model(output.model_id).tags["mlflow.modelVersions"])
    assert versions == [{"name": "toy", "version": "1"}]


def test_transferability_is_logged_as_metrics(tracker, run, final) -> None:
    values = np.array([[np.nan, 0.1], [np.nan, np.nan]])
    pairwise = Affinity(("density", "volume"), values, measure="measured gain")
    scores = (MeasureScore("|spearman|", 0.5, 0.1, 0.8, 6),)
    write_transfer(TransferReport((), pairwise, scores, None, 0), run / "transfer")
    tracker.log_transfer()
    metrics = connect(tracker.uri).get_run(tracker.parent_run_id).data.metrics
    assert metrics["transferability/spearman"] == 0.5
    assert metrics["transfer/density/to/volume"] == pytest.approx(0.1)
    assert "transfer/volume/to/density" not in metrics


def test_runs_have_the_times_of_their_trials(tracker, records) -> None:
    for child in children(tracker):
        (record,) = [record for record in records if record.name == child.info.run_name]
        end = datetime.fromisoformat(record.time).timestamp() * 1000
        assert child.info.end_time == end
        assert child.info.start_time == end - record.seconds * 1000


def test_the_parent_holds_the_verdict(tracker, records, final) -> None:
    tracker.log_final(final)
    parent = connect(tracker.uri).get_run(tracker.parent_run_id)
    assert parent.data.tags["chosen"] == records[5].name
    assert "joining helps" in parent.data.tags["mlflow.note.content"]
    assert parent.data.metrics["final/test_gain/low"] == 0.01
    assert parent.data.metrics["objective"] == 0.65


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


def test_the_environment_says_where_a_new_study_logs_and_an_old_one_goes_on_where_it_was(
    run, monkeypatch, caplog
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert uri_of_study(run, None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@tracker")
    with caplog.at_level(logging.INFO):
        assert uri_of_study(run, None) == f"http://me:{SECRET}@tracker"
    assert "MLFLOW_TRACKING_URI" in caplog.text
    assert SECRET not in caplog.text
    assert uri_of_study(run, "http://elsewhere") == "http://elsewhere"
    Tracker(run).sync()
    assert uri_of_study(run, None) is None, "its records are in its own folder"


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
