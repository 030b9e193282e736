"""Talking to MLflow: a quiet client, names it accepts, and reading a study back."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.files import read_json
from taskgroup.urls import redact, resolve, sqlite_url

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that is away must not hold up a study for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Standard output belongs to us: with --json it holds one document.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

# Remembers experiment and parent run of a study, so that a resumed one goes on there.
MEMORY_FILE = "mlflow.json"

# Names of the summary metrics beside the targets' gains; no target may take one.
_RESERVED_SLUGS = ("mean", "min")

# Runs asked for at a time, below MLflow's limit of 1000.
_PAGE = 500


def default_uri(run_dir: str | Path) -> str:
    """Return the tracking URI of a run without a server: SQLite in its folder."""
    return _mlflow_url(Path(run_dir).resolve() / "mlflow.db")


def tracking_uri(run_dir: str | Path) -> str:
    """Return where the records of a run went: the URI its Tracker used, or else would use."""
    path = Path(run_dir) / MEMORY_FILE
    remembered = None
    if path.exists():
        remembered = read_json(path)["uri"]
    if remembered is None:
        return default_uri(run_dir)
    return resolve("tracking.uri", remembered)


def uri_of_study(run_dir: str | Path, configured: str | None) -> str | None:
    """Return where a study is to log: as configured, else where it went before, else what MLFLOW_TRACKING_URI says.

    None: in its own folder.
    """
    if configured is not None:
        return configured
    of_environment = os.environ.get("MLFLOW_TRACKING_URI") or None
    path = Path(run_dir) / MEMORY_FILE
    if path.exists():
        remembered = read_json(path)["uri"]
        # Without its password it could not be used.
        if of_environment is None or redact(of_environment) != remembered:
            return remembered
    if of_environment is not None:
        _log.warning("MLflow keeps the records at %s (MLFLOW_TRACKING_URI)", redact(of_environment))
    return of_environment


def is_server(uri: str) -> bool:
    """Return whether a tracking URI is that of a server, which keeps artifacts itself."""
    return uri.startswith("http")


def connect(uri: str) -> "MlflowClient":
    """Return an MLflow client that neither chatters nor waits long for a server that is away."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Without it the registry would be that of the environment or of earlier code in this process.
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def create_database(path: Path) -> None:
    """Make MLflow's tables whole or not at all: it takes seconds, and half of them could not be opened ever after."""
    if path.exists():
        return
    # Only the process that holds the run's lock comes here, so every draft was left by a kill.
    for abandoned in path.parent.glob("*.draft"):
        abandoned.unlink()
    draft = path.with_suffix(f".{os.getpid()}.draft")
    # Any request makes the tables.
    connect(_mlflow_url(draft.resolve())).search_experiments(max_results=1)
    os.replace(draft, path)


def slugs(targets: Iterable[str]) -> dict[str, str]:
    """Return a distinct name MLflow accepts for each target; the same for any order of targets."""
    slug_by_target: dict[str, str] = {}
    taken = set(_RESERVED_SLUGS)
    for target in sorted(targets):
        plain = re.sub(r"[^0-9A-Za-z_-]+", "_", target).strip("_") or "target"
        slug = plain
        count = 2
        while slug in taken:
            slug = f"{plain}-{count}"
            count += 1
        taken.add(slug)
        slug_by_target[target] = slug
    return slug_by_target


def child_runs(client: "MlflowClient", experiment_id: str, parent_run_id: str) -> "Iterator[Run]":
    """Yield the runs of a study's records."""
    query = f"tags.`mlflow.parentRunId` = '{parent_run_id}'"
    return search_runs(client, experiment_id, query)


def search_runs(client: "MlflowClient", experiment_id: str, query: str) -> "Iterator[Run]":
    """Yield all runs of an experiment that match an MLflow query, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def record_key(tags: Mapping[str, str]) -> tuple[str, int]:
    """Return kind and number of the record that a child run was made from: what no two records share."""
    return tags["kind"], int(tags["trial"])


def rows_from_mlflow(uri: str, parent_run_id: str) -> list[dict[str, Any]]:
    """Return what MLflow holds of a study, one row per child run.

    Rows are ``{name, kind, number, state, grouping_id, objective, skills, gains}``, read from tags and metrics.
    """
    client = connect(uri)
    experiment_id = client.get_run(parent_run_id).info.experiment_id
    labels = read_json(client.download_artifacts(parent_run_id, "labels.json"))
    rows = []
    for run in child_runs(client, experiment_id, parent_run_id):
        rows.append(_row(run.data.tags, run.data.metrics, labels))
    return rows


def _mlflow_url(path: Path) -> str:
    """Return the URL of an SQLite file for MLflow.

    Of a URL that begins with ``sqlite:///`` MLflow makes the folder as it is spelled in the URL, so ``%3F`` for a
    question mark. It leaves URLs alone that name the driver too.
    """
    url = sqlite_url(path)
    if url == f"sqlite:///{path}":
        return url
    return url.replace("sqlite:", "sqlite+pysqlite:", 1)


def _row(
    tags: Mapping[str, str], metrics: Mapping[str, float], labels: Mapping[str, str]
) -> dict[str, Any]:
    kind, number = record_key(tags)
    skills = {}
    gains = {}
    skill_prefix, objective = "val", "objective"
    if kind == "refit":
        skill_prefix, objective = "test", "test_skill"
    for slug, target in labels.items():
        skill = metrics.get(f"{skill_prefix}/{slug}/skill")
        gain = metrics.get(f"gain/{slug}")
        if skill is not None:
            skills[target] = skill
        if gain is not None:
            gains[target] = gain
    return {
        "name": tags["name"],
        "kind": kind,
        "number": number,
        "state": tags["state"],
        "grouping_id": tags["grouping_id"],
        "objective": metrics.get(objective),
        "skills": skills,
        "gains": gains,
    }
