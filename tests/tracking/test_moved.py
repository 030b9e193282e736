"""Run folders that were moved or copied: MLflow's addresses follow them."""

import shutil
import subprocess
import sys
from pathlib import Path

from taskgroup.export.model_registry import register_bundle
from taskgroup.tracking import Tracker, TrialRecord, append_record, follow_move, tracking_uri
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


def test_a_registered_bundle_of_a_moved_run_is_found(run: Path, tmp_path: Path, monkeypatch):
    Tracker(run).sync()
    monkeypatch.setattr(
        "taskgroup.export.model_registry._save_pyfunc",
        lambda bundle, path: shutil.copytree(bundle, path),
    )
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    register_bundle(bundle, "model", tracking_uri(run), run / "mlartifacts")
    new = tmp_path / "moved"
    shutil.move(run, new)
    follow_move(new)
    register_bundle(bundle, "model", tracking_uri(new), new / "mlartifacts")
    assert not run.exists()
    client = connect(tracking_uri(new))
    for version in ("1", "2"):
        address = client.get_model_version("model", version).source
        assert address.startswith((new / "mlartifacts").as_uri())
        assert Path(address.removeprefix("file://"), "bundle.json").exists()


def test_a_run_without_a_database_has_nothing_to_follow(tmp_path: Path):
    assert follow_move(tmp_path) == 0
    (tmp_path / "mlflow.db").touch()
    assert follow_move(tmp_path) == 0
