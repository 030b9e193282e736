"""The parent run of a study in MLflow: found again when the study is resumed, else made."""

import contextlib
import getpass
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskgroup.files import plain_json, read_json, write_json
from taskgroup.tracking.mlflow_client import MEMORY_FILE, default_uri
from taskgroup.tracking.mlflow_run import RunContent, study_params
from taskgroup.tracking.mlflow_view import write_view
from taskgroup.tracking.record import StudyRecord
from taskgroup.urls import redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Characters of a digest; MLflow refuses more than 36.
_LONGEST_DIGEST = 36


class ParentRun(NamedTuple):
    """Ids of a study's run and of its experiment."""

    experiment_id: str
    run_id: str


class ParentSettings(NamedTuple):
    """What a new parent run is made with; ``artifacts`` is where a new experiment keeps them, None: MLflow decides."""

    run_name: str
    experiment: str
    artifacts: str | None
    slug_by_target: dict[str, str]


def remembered_parent(client: "MlflowClient", run_dir: Path, uri: str) -> ParentRun | None:
    """Return the parent run that an earlier process made at this URI, running again; None where there is none."""
    path = run_dir / MEMORY_FILE
    if not path.exists():
        return None
    memory = read_json(path)
    if (memory["uri"] or redact(default_uri(run_dir))) != redact(uri):
        return None
    client.update_run(memory["run_id"], status="RUNNING")
    return ParentRun(memory["experiment_id"], memory["run_id"])


def create_parent(
    client: "MlflowClient", run_dir: Path, uri: str, study: StudyRecord, settings: ParentSettings
) -> ParentRun:
    """Make the parent run of a study and remember it in the run folder."""
    experiment_id = _experiment(client, settings)
    tags = {"kind": "study", "state": "running", "mlflow.note.content": dataset_note(study)}
    tags |= source_tags(study)
    run = client.create_run(experiment_id, run_name=settings.run_name, tags=tags)
    run_id = run.info.run_id
    RunContent(params=study_params(study.config)).log(client, run_id)
    log_dataset(client, run_id, study)
    write_view(client, experiment_id, run_id, is_finished=False)
    labels = {slug: target for target, slug in settings.slug_by_target.items()}
    client.log_dict(run_id, labels, "labels.json")
    client.log_dict(run_id, without_passwords(asdict(study)), "study.json")
    # Of the run's own database no path is kept, so that the folder may move.
    remembered_uri = None if uri == default_uri(run_dir) else redact(uri)
    memory = {"uri": remembered_uri, "experiment_id": experiment_id, "run_id": run_id}
    write_json(run_dir / MEMORY_FILE, memory, indent=1)
    return ParentRun(experiment_id, run_id)


def dataset_note(study: StudyRecord) -> str:
    """Return what a study was run on, for MLflow's description of its run."""
    dataset = study.dataset
    version, digest = dataset.get("version", ""), dataset.get("hash", "")
    return f"dataset {dataset['name']} {version}, hash {digest}".strip()


def source_tags(study: StudyRecord) -> dict[str, str]:
    """Return the tags that fill MLflow's columns Source and User."""
    version = study.versions.get("taskgroup", "")
    tags = {
        "mlflow.source.name": f"taskgroup {version}".strip(),
        "mlflow.source.type": "LOCAL",
    }
    # A container may run under a number that no user has.
    with contextlib.suppress(OSError, KeyError):
        tags["mlflow.user"] = getpass.getuser()
    return tags


def log_dataset(client: "MlflowClient", run_id: str, study: StudyRecord) -> None:
    """Log the dataset as the input of a run: its name, the beginning of its hash, its targets with units."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = study.dataset
    columns = []
    for name, target in study.targets.items():
        label = f"{name} [{target['unit']}]" if target.get("unit") else name
        columns.append({"type": "double", "name": label, "required": False})
    digest = str(dataset.get("hash") or dataset.get("version") or "unknown")
    source = {"name": dataset["name"], "version": dataset.get("version"), "split": study.split_id}
    entity = Dataset(
        name=dataset["name"],
        digest=digest[:_LONGEST_DIGEST],
        source_type="taskgroup",
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}),
    )
    context = InputTag("mlflow.data.context", "training and validation")
    client.log_inputs(run_id, [DatasetInput(entity, [context])])


def without_passwords(content: Any) -> Any:
    """Return JSON content with the password of every URL in it replaced."""
    if isinstance(content, str):
        return redact(content)
    if isinstance(content, list | tuple):
        return [without_passwords(item) for item in content]
    if isinstance(content, dict):
        return {name: without_passwords(item) for name, item in content.items()}
    return plain_json(content)


def _experiment(client: "MlflowClient", settings: ParentSettings) -> str:
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is not None:
        return experiment.experiment_id
    return client.create_experiment(settings.experiment, artifact_location=settings.artifacts)
