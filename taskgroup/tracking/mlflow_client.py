"""Talking to MLflow: a quiet client, names it accepts, and reading a study back."""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def default_uri(run_dir: str | Path) -> str:
    """The tracking URI of a run without a server: SQLite in its folder."""
    return f"sqlite:///{Path(run_dir).resolve() / 'mlflow.db'}"


def tracking_uri(run_dir: str | Path) -> str:
    """Where the records of a run went: the URI its Tracker used, or else would use."""
    path = Path(run_dir) / "mlflow.json"
    remembered = json.loads(path.read_text())["uri"] if path.exists() else None
    return remembered or default_uri(run_dir)


def connect(uri: str) -> "MlflowClient":
    """An MLflow client that neither chatters nor waits long for a server that is away."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def create_database(path: Path) -> None:
    """Make MLflow's tables whole or not at all: it takes seconds, and half of them could not be opened ever after."""
    if path.exists():
        return
    for left_by_a_kill in path.parent.glob("*.draft"):
        left_by_a_kill.unlink()
    draft = path.with_suffix(f".{os.getpid()}.draft")
    connect(f"sqlite:///{draft.resolve()}").search_experiments(max_results=1)
    os.replace(draft, path)


def slugs(targets: Iterable[str]) -> dict[str, str]:
    """A distinct name MLflow accepts for each target; the same for any order of targets."""
    found: dict[str, str] = {}
    taken = {"mean", "min"}  # of the summary metrics beside the targets' gains
    for target in sorted(targets):
        plain = re.sub(r"[^0-9A-Za-z_-]+", "_", target).strip("_") or "target"
        slug, count = plain, 2
        while slug in taken:
            slug, count = f"{plain}-{count}", count + 1
        taken.add(slug)
        found[target] = slug
    return found


def search_runs(client: "MlflowClient", experiment_id: str, query: str) -> Iterator[Any]:
    """All runs of an experiment that match an MLflow query, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, max_results=500, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def rows_from_mlflow(uri: str, parent_run_id: str) -> list[dict[str, Any]]:
    """What MLflow holds of a study, a row a child run.

    Rows are ``{name, kind, number, state, grouping_id, objective, skills, gains}``, read from tags and metrics.
    """
    client = connect(uri)
    parent = client.get_run(parent_run_id)
    labels = json.loads(Path(client.download_artifacts(parent_run_id, "labels.json")).read_text())
    runs = search_runs(
        client, parent.info.experiment_id, f"tags.`mlflow.parentRunId` = '{parent_run_id}'"
    )
    return [_row_of(run, labels) for run in runs]


def _row_of(run: Any, labels: Mapping[str, str]) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    part = "test" if tags["kind"] == "refit" else "val"
    skills = {label: metrics.get(f"{part}/{slug}/skill") for slug, label in labels.items()}
    gains = {label: metrics.get(f"gain/{slug}") for slug, label in labels.items()}
    return {
        "name": tags["name"],
        "kind": tags["kind"],
        "number": int(tags["trial"]),
        "state": tags["state"],
        "grouping_id": tags["grouping_id"],
        "objective": metrics.get("test/objective" if part == "test" else "objective"),
        "skills": {target: skill for target, skill in skills.items() if skill is not None},
        "gains": {target: gain for target, gain in gains.items() if gain is not None},
    }
