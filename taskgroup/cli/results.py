"""Verbs that show what a run gave: leaderboard, report, ui."""

import sys
import webbrowser
from pathlib import Path

import click

from taskgroup.cli._options import output_format


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@output_format("table", "csv", "json", "html")
@click.option(
    "--sort",
    metavar="COLUMN",
    help="A column, a target (its skill), gain/TARGET or hp/NAME; default: by rank.",
)
@click.option("--top", type=click.IntRange(min=1), help="Only the first rows.")
def leaderboard(run: Path, form: str, sort: str | None, top: int | None) -> None:
    """Show baselines, trials and assembled groupings of a run, best first.

    Skill and gains are those on validation rows; only the choice is tested.
    """
    from taskgroup import tracking
    from taskgroup.cli._console import print_json
    from taskgroup.files import csv_text

    folder = tracking.find_run(run)
    records = tracking.read_records(folder)
    final = tracking.read_final(folder)
    if form == "json":
        print_json(tracking.leaderboard(records, sort, top, final))
    elif form == "csv":
        frame = tracking.leaderboard_frame(records, sort, top, final)
        click.echo(csv_text(frame), nl=False)
    elif form == "html":
        frame = tracking.leaderboard_frame(records, sort, top, final)
        click.echo(frame.to_html(index=False, border=0, float_format="{:.4f}".format, na_rep=""))
    else:
        _print_table(records, sort, top, final)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The HTML file; default: report.html in the run folder.",
)
@click.option(
    "--figures",
    "figures_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write each figure for a paper (PDF, SVG, PNG), with its numbers as CSV.",
)
@click.option(
    "--paper",
    default="aps",
    show_default=True,
    help="Whose column widths and fonts the figures have: aps, acs, rsc, elsevier or nature.",
)
@output_format("text", "json")
def report(run: Path, out: Path | None, figures_folder: Path | None, paper: str, form: str) -> None:
    """Write one self-contained HTML file about a run, and its figures for a paper where asked."""
    from taskgroup import tracking
    from taskgroup.cli._console import print_json
    from taskgroup.plot import find_paper
    from taskgroup.tracking.figures import save_figures
    from taskgroup.tracking.report import write_report

    folder = tracking.find_run(run)
    find_paper(paper)
    path = write_report(folder, out or folder / "report.html")
    written = []
    if figures_folder is not None:
        written = save_figures(folder, figures_folder, paper)
    if form == "json":
        print_json({"report": str(path), "figures": list(map(str, written))})
        return
    click.echo(path)
    for file in written:
        click.echo(file)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(1024, 65534),
    default=5000,
    show_default=True,
    help="MLflow's; Optuna: + 1.",
)
@click.option(
    "--browser/--no-browser",
    default=None,
    help="Open MLflow's table of runs in the browser; default: where this is a terminal.",
)
def ui(run: Path, port: int, browser: bool | None) -> None:
    """Serve MLflow and the Optuna dashboard of a run on this machine only, until Ctrl-C."""
    from taskgroup import tracking
    from taskgroup.tracking.ui import serve

    if browser is None:
        browser = sys.stdout.isatty()
    folder = tracking.find_run(run)
    if browser:
        serve(folder, port, click.echo, webbrowser.open)
    else:
        serve(folder, port, click.echo)


def _print_table(records: list, sort: str | None, top: int | None, final: object) -> None:
    from taskgroup import tracking
    from taskgroup.cli._console import make_console

    console = make_console()
    if final is not None:
        console.print(f"[bold]{tracking.verdict_sentence(final)}[/bold]\n", soft_wrap=True)
    console.print(tracking.leaderboard_table(records, sort, top, final=final))
    for note in tracking.leaderboard_notes(records, final):
        console.print(note, soft_wrap=True)
