"""The result of a study in MLflow: on its own run, on the run of the choice, and as the order of all runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from taskgroup.tracking.leaderboard import leaderboard
from taskgroup.tracking.mlflow_parent import ParentRun, dataset_note
from taskgroup.tracking.mlflow_run import final_content, summary_content
from taskgroup.tracking.mlflow_view import write_view
from taskgroup.tracking.record import FinalRecord, StudyRecord, TrialRecord
from taskgroup.tracking.verdict import verdict_sentence

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def log_result(
    client: "MlflowClient",
    parent: ParentRun,
    run_id_by_name: Mapping[str, str],
    records: Sequence[TrialRecord],
    final: FinalRecord,
    study: StudyRecord,
    slug_by_target: Mapping[str, str],
) -> None:
    """Log the choice of a study: values with intervals, gains, test metrics, the verdict.

    ``run_id_by_name`` are the runs of the records, by their names; ``records`` have their gains.
    """
    content = final_content(final, slug_by_target)
    verdict = verdict_sentence(final)
    content.log(client, parent.run_id)
    summary_content(final, records).log(client, parent.run_id)
    _describe(client, parent.run_id, f"{verdict}\n\n{dataset_note(study)}")
    client.log_dict(parent.run_id, final.to_dict(), "final.json")
    _log_positions(client, run_id_by_name, records, final)
    chosen_run_id = run_id_by_name.get(final.name)
    if chosen_run_id is not None:
        content.log(client, chosen_run_id)
        client.set_tag(chosen_run_id, "chosen", "true")
        _describe(client, chosen_run_id, verdict)
    write_view(client, parent.experiment_id, parent.run_id, is_finished=True)


def _describe(client: "MlflowClient", run_id: str, text: str) -> None:
    client.set_tag(run_id, "mlflow.note.content", text)


def _log_positions(
    client: "MlflowClient",
    run_id_by_name: Mapping[str, str],
    records: Sequence[TrialRecord],
    final: FinalRecord,
) -> None:
    """Log the place of each run in the leaderboard as a metric; that of the choice is 0."""
    for row in leaderboard(records, final=final):
        position = 0 if row["chosen"] else row["rank"]
        run_id = run_id_by_name.get(row["name"])
        if position is not None and run_id is not None:
            client.log_metric(run_id, "position", position)
