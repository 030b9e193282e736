"""The table of a study's runs as MLflow's pages show it: ten columns, the choice on top.

MLflow keeps shared views of a table in tags of the experiment. A link that names one opens it.
"""

import json
from typing import TYPE_CHECKING, Any

from taskgroup.tracking.mlflow_run import COLUMNS

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_TAG = "mlflow.sharedViewState."

# Pixels; the names of some metrics are longer than what MLflow gives a column.
_NARROWEST = 95
_PER_CHARACTER = 8
_GROUPING_WIDTH = 420


def write_view(
    client: "MlflowClient", experiment_id: str, parent_run_id: str, is_finished: bool
) -> None:
    """Let the experiment hold the view of a study; its key is the id of the study's run."""
    view = json.dumps(_view(parent_run_id, is_finished))
    client.set_experiment_tag(experiment_id, f"{_TAG}{parent_run_id}", view)


def table_page(experiment_id: str, parent_run_id: str) -> str:
    """Return the address of the view below that of the server."""
    # Without the workflow MLflow shows its pages for language models.
    query = f"viewStateShareKey={parent_run_id}&workflowType=machine_learning"
    return f"/#/experiments/{experiment_id}/runs?{query}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a run below that of the server."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def _view(parent_run_id: str, is_finished: bool) -> dict[str, Any]:
    columns = [f"metrics.`{name}`" for name in COLUMNS]
    widths = {}
    for name, column in zip(COLUMNS, columns, strict=True):
        widths[column] = max(_NARROWEST, _PER_CHARACTER * len(name))
    grouping = "tags.`grouping`"
    # Positions are known at the end; until then the best objective is on top.
    sorted_by = COLUMNS[0] if is_finished else "objective"
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
        "orderByKey": f"metrics.`{sorted_by}`",
        "orderByAsc": is_finished,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [*columns, grouping, "tags.`state`"],
        "columnOrder": [*columns, grouping],
        "columnWidths": widths | {grouping: _GROUPING_WIDTH},
        "runsHiddenMode": "FIRST_20_RUNS",
    }
