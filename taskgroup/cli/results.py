"""Verbs that show what a run gave: leaderboard, report, ui."""

import json
from pathlib import Path

import click

_TOP = click.option("--top", type=click.IntRange(min=1), help="Only the first rows.")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "html"]),
    default="table",
    show_default=True,
)
@click.option(
    "--sort",
    metavar="COLUMN",
    help="A column, a target (its skill) or gain/TARGET; default: by rank.",
)
@_TOP
def leaderboard(run: Path, form: str, sort: str | None, top: int | None) -> None:
    """Show baselines, trials and assembled groupings of a run, best first."""
    from taskgroup import tracking

    records = tracking.read_records(tracking.find_run(run))
    if form == "json":
        click.echo(json.dumps(tracking.leaderboard(records, sort, top), indent=1, allow_nan=False))
    elif form == "csv":
        click.echo(tracking.leaderboard_frame(records, sort, top).to_csv(index=False), nl=False)
    elif form == "html":
        frame = tracking.leaderboard_frame(records, sort, top)
        click.echo(frame.to_html(index=False, border=0, float_format="{:.4f}".format, na_rep=""))
    else:
        from taskgroup.cli._console import make_console

        make_console().print(tracking.leaderboard_table(records, sort, top))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The HTML file; default: report.html in the run folder.",
)
def report(run: Path, out: Path | None) -> None:
    """Write one self-contained HTML file about a run."""
    from taskgroup import tracking
    from taskgroup.tracking.report import write_report

    folder = tracking.find_run(run)
    click.echo(write_report(folder, out or folder / "report.html"))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(1024, 65534),
    default=5000,
    show_default=True,
    help="MLflow's; Optuna: + 1.",
)
def ui(run: Path, port: int) -> None:
    """Serve MLflow and the Optuna dashboard of a run on this machine only, until Ctrl-C."""
    from taskgroup import tracking
    from taskgroup.tracking.ui import serve

    serve(tracking.find_run(run), port, click.echo)
