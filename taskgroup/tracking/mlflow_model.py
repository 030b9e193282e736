"""The bundle of a study as a model in MLflow: logged on the run of the choice, and registered on demand.

A model folder is what MLflow loads and serves; whoever calls writes it, so nothing is known here of bundles.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

SaveModel = Callable[[Path], None]
"""Writes an MLflow model into a folder that is not there yet."""

MODEL_NAME = "bundle"

# Tags of the run that its model has too.
_SHARED_TAGS = ("grouping", "grouping_id", "name", "kind")

# Where MLflow's page of a logged model looks for its versions.
_VERSIONS_TAG = "mlflow.modelVersions"

# Prefixes of the metrics that a model shows: those of test rows. The ten columns have none.
_TEST_PREFIXES = ("test/", "final/")


def model_of_run(client: "MlflowClient", run_id: str) -> str | None:
    """Return the id of the model that was logged on a run; None where there is none."""
    outputs = client.get_run(run_id).outputs
    models = [] if outputs is None else outputs.model_outputs
    return models[-1].model_id if models else None


def log_model(client: "MlflowClient", run_id: str, save: SaveModel) -> str:
    """Log a model on a run, with the run's metrics and tags, unless it has one; return the model's id."""
    from mlflow.entities import LoggedModelOutput

    existing = model_of_run(client, run_id)
    if existing is not None:
        return existing
    run = client.get_run(run_id)
    shared = (*_SHARED_TAGS, "mlflow.note.content", "mlflow.source.name", "mlflow.user")
    tags = {name: run.data.tags[name] for name in shared if name in run.data.tags}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        save(path)
        model = client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, run_id, tags, model_type="taskgroup bundle"
        )
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, "READY")
    # The output comes last: by it a whole model is known.
    _log_metrics(client, run, model.model_id)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


def register_model(
    client: "MlflowClient", name: str, run_id: str, model_id: str, description: str
) -> int:
    """Make a logged model a version of a registered one, with the alias ``champion``; return the version."""
    run = client.get_run(run_id)
    tags = {tag: run.data.tags[tag] for tag in _SHARED_TAGS if tag in run.data.tags}
    # Tags are all that a version has for numbers.
    for metric in ("test_skill", "new_seed_skill", "test_gain"):
        if metric in run.data.metrics:
            tags[metric] = f"{run.data.metrics[metric]:.4f}"
    _create_registered_model(client, name, description)
    # Not models:/ID, which MLflow looks up where the process as a whole logs to.
    source = client.get_logged_model(model_id).artifact_location
    version = client.create_model_version(
        name, source, run_id, tags, description=description, model_id=model_id
    ).version
    client.set_registered_model_alias(name, "champion", version)
    _note_version(client, model_id, name, str(version))
    return int(version)


def _log_metrics(client: "MlflowClient", run: "Run", model_id: str) -> None:
    """Give a model the columns and the test metrics of its run."""
    from mlflow.entities import Metric

    dataset: dict[str, str] = {}
    for entry in run.inputs.dataset_inputs:
        dataset = {"dataset_name": entry.dataset.name, "dataset_digest": entry.dataset.digest}
    metrics = []
    for name, value in run.data.metrics.items():
        if "/" not in name or name.startswith(_TEST_PREFIXES):
            metric = Metric(name, value, run.info.end_time, 0, model_id=model_id, **dataset)
            metrics.append(metric)
    client.log_batch(run.info.run_id, metrics)


def _note_version(client: "MlflowClient", model_id: str, name: str, version: str) -> None:
    """Let the page of a logged model list its versions: MLflow itself does so for addresses it looks up only."""
    tags = client.get_logged_model(model_id).tags
    versions = json.loads(tags.get(_VERSIONS_TAG, "[]"))
    versions.append({"name": name, "version": version})
    client.set_logged_model_tags(model_id, {_VERSIONS_TAG: json.dumps(versions)})


def _create_registered_model(client: "MlflowClient", name: str, description: str) -> None:
    """Create the registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
