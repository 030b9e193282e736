"""Verbs that look after a run: failures, sync."""

from pathlib import Path
from typing import Any

import click

from taskgroup.cli._options import output_format
from taskgroup.errors import TaskgroupError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@output_format("table", "json")
def failures(run: Path, form: str) -> None:
    """List every training of a run that failed: its kind, trial, targets, reason and log file.

    A training that succeeded at a later attempt is listed too. Trials that had no network to train, since their
    settings gave no grouping, have no targets.
    """
    from taskgroup.cli._console import plain_table, print_json, print_table

    rows = _failures(run)
    if form == "json":
        print_json(rows)
        return
    if not rows:
        click.echo("No training of this run has failed.")
        return
    table = plain_table("kind", "trial", "targets", "reason", "log")
    for row in rows:
        table.add_row(
            row["kind"], row["trial"], " + ".join(row["targets"]), row["reason"], row["log"]
        )
    print_table(table)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@output_format("text", "json")
def sync(run: Path, form: str) -> None:
    """Bring MLflow up to date with a run: what it lacks is logged, what stands half-written is logged again.

    Needed only where a process or a server was killed and the run is not resumed. Exit code 1: MLflow is away.
    """
    from taskgroup import tracking
    from taskgroup.cli._console import print_json
    from taskgroup.files import held_lock
    from taskgroup.study.publish import publish
    from taskgroup.urls import redact

    folder = tracking.find_run(run)
    busy = f"{folder}: another process is working on this run, and keeps MLflow up to date itself"
    with held_lock(folder / "lock", busy):
        tracker = tracking.Tracker.of_run(folder)
        tracker.sync()
        final = tracking.read_final(folder)
        if final is not None:
            tracker.log_final(final)
            publish(folder, tracker)
        state = tracking.read_study(folder).state
        # The process that was running it is gone: the lock is ours.
        tracker.close("interrupted" if state == "running" else state)
    if tracker.is_behind:
        raise TaskgroupError(f"MLflow at {redact(tracker.uri)} does not answer; try again later")
    if form == "json":
        print_json({"records": tracker.n_logged, "mended": tracker.n_mended})
        return
    click.echo(f"MLflow has all {tracker.n_logged} records of {folder}; mended: {tracker.n_mended}")


def _failures(run: Path) -> list[dict[str, Any]]:
    from taskgroup import tracking
    from taskgroup.execution.failures import read_failures

    folder = tracking.find_run(run)
    records = tracking.read_records(folder)
    trial_of_key: dict[str, str] = {}
    for record in records:
        for key in record.keys:
            trial_of_key.setdefault(key, record.name)
    rows = []
    for failed in read_failures(folder):
        rows.append(
            {
                "kind": failed.kind,
                "trial": trial_of_key.get(failed.key, "refit"),
                "targets": list(failed.targets),
                "reason": failed.reason,
                "log": failed.log,
            }
        )
    for record in records:
        if record.state == "FAIL" and not record.keys:
            rows.append(
                {
                    "kind": record.fail_kind or "error",
                    "trial": record.name,
                    "targets": [],
                    "reason": record.fail_reason or "",
                    "log": "",
                }
            )
    return rows
