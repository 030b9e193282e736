"""Run folders that were moved or copied: MLflow's addresses follow them."""

import shutil
import subprocess
import sys
from pathlib import Path

from taskgroup.tracking import (
    FinalRecord,
    Interval,
    Tracker,
    TrialRecord,
    append_record,
    follow_move,
    read_final,
    tracking_uri,
    write_final,
)
from taskgroup.tracking.mlflow_client import child_runs, connect


def test_a_copied_run_writes_to_its_new_place(
    run: Path, make_record, records: list[TrialRecord], tmp_path: Path
):
    first = Tracker(run)
    first.sync()
    first.close()
    new = tmp_path / "elsewhere" / "what? %41"
    new.parent.mkdir()
    shutil.copytree(run, new)
    before = sorted(path.name for path in run.rglob("*"))
    append_record(new, make_record(9, name="later"))
    # In a process of its own, as after a real move: MLflow remembers addresses as long as a process lives.
    code = f"from taskgroup.cli import main; main(['sync', {str(new)!r}])"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(path.name for path in run.rglob("*")) == before, "the old place is left alone"
    client = connect(tracking_uri(new))
    parent = client.get_run(first.parent_run_id)
    runs = list(child_runs(client, parent.info.experiment_id, parent.info.run_id))
    assert len(runs) == len(records) + 1
    here = (new.resolve() / "mlartifacts").as_uri()
    assert all(each.info.artifact_uri.startswith(here + "/") for each in [parent, *runs])
    for each in runs:
        relative = each.info.artifact_uri.removeprefix(here + "/")
        assert (new / "mlartifacts" / relative / "record.json").is_file()
    assert follow_move(new) == 0


def test_a_registered_model_of_a_moved_run_is_found(
    run: Path, records: list[TrialRecord], tmp_path: Path
):
    def save(path: Path) -> None:
        path.mkdir()
        (path / "MLmodel").write_text("flavors: {}\n")

    def register(folder: Path) -> int:
        tracker = Tracker(folder)
        tracker.sync()
        tracker.log_model(save)
        return tracker.register_model("model", "")

    value = Interval(0.6, 0.5, 0.7, 3)
    write_final(run, FinalRecord(records[5].grouping, records[5].name, 0.65, value, value, {}, {}))
    Tracker(run).log_final(read_final(run))
    assert register(run) == 1
    new = tmp_path / "moved"
    shutil.move(run, new)
    assert register(new) == 2
    assert not run.exists()
    client = connect(tracking_uri(new))
    for version in ("1", "2"):
        address = client.get_model_version("model", version).source
        assert address.startswith((new / "mlartifacts").as_uri())
        assert Path(address.removeprefix("file://"), "MLmodel").exists()


def test_a_run_without_a_database_has_nothing_to_follow(tmp_path: Path):
    assert follow_move(tmp_path) == 0
    (tmp_path / "mlflow.db").touch()
    assert follow_move(tmp_path) == 0
