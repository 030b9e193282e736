"""A bundle as a version of a registered MLflow model."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup import __version__

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_EXPERIMENT = "taskgroup/models"


def register_bundle(bundle_dir: str | Path, name: str, uri: str, artifacts: str | Path) -> int:
    """Register a bundle folder as an MLflow pyfunc model; the new version gets the alias ``champion``.

    The model takes a table with a column ``path`` (density files) and gives what ``Bundle.predict`` gives. It is made
    from code, so that loading it unpickles nothing. ``artifacts`` is the folder it is kept in, unless ``uri`` is a
    server, which chooses itself. Returns the version.
    """
    with _quiet_mlflow():
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        location = None
        if not uri.startswith("http"):
            location = Path(artifacts).resolve().as_uri()
        experiment_id = _experiment(client, location)
        run = client.create_run(experiment_id, run_name=name, tags={"kind": "registered"}).info
        with tempfile.TemporaryDirectory() as folder:
            _save_pyfunc(Path(bundle_dir), f"{folder}/model")
            client.log_artifacts(run.run_id, f"{folder}/model", "model")
        client.set_terminated(run.run_id)
        _create_model(client, name)
        source = f"{run.artifact_uri}/model"
        version = client.create_model_version(name, source, run.run_id).version
        client.set_registered_model_alias(name, "champion", version)
    return int(version)


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Keep away MLflow's warnings about type hints of its own, and its progress messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        yield


def _experiment(client: "MlflowClient", location: str | None) -> str:
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    if experiment is not None:
        return experiment.experiment_id
    return client.create_experiment(_EXPERIMENT, location)


def _create_model(client: "MlflowClient", name: str) -> None:
    """Create the registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save_pyfunc(bundle_dir: Path, path: str) -> None:
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, Schema

    save_model(
        path,
        python_model=str(files("taskgroup.export").joinpath("pyfunc_model.py")),
        artifacts={"bundle": str(bundle_dir)},
        pip_requirements=[f"taskgroup-materials=={__version__}"],
        signature=ModelSignature(inputs=Schema([ColSpec("string", "path")])),
    )
