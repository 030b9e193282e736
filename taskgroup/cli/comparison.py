"""`taskgroup compare`: studies side by side on the test rows they share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskgroup.cli._options import output_format

if TYPE_CHECKING:
    from rich.table import Table

    from taskgroup.intervals import Interval
    from taskgroup.study.side_by_side import SideBySide


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@output_format("table", "csv", "json")
def compare(runs: tuple[str, ...], form: str) -> None:
    """Compare finished studies on the test rows and targets that they share; nothing is trained.

    Differences are to the first run, paired row by row, with 95 % intervals.
    """
    from taskgroup.cli._console import make_console, print_json, print_table
    from taskgroup.files import csv_text, plain_json
    from taskgroup.study.side_by_side import side_by_side

    compared = side_by_side([Path(run) for run in runs])
    if form == "csv":
        click.echo(csv_text(compared.frame()), nl=False)
        return
    if form == "json":
        rows = plain_json(compared.frame().to_dict("records"))
        print_json({"rows": compared.n_rows, "targets": list(compared.targets), "scores": rows})
        return
    print_table(_table(compared))
    console = make_console()
    for sentence in _sentences(compared):
        console.print(sentence, soft_wrap=True)


def _table(compared: "SideBySide") -> "Table":
    from taskgroup.cli._console import plain_table
    from taskgroup.study.side_by_side import MEAN
    from taskgroup.tracking.verdict import interval_in_words

    first, *others = compared.runs
    headers = [f">{run.name} ({len(run.grouping)} nets)" for run in compared.runs]
    differences = [f">{run.name} - {first.name}" for run in others]
    table = plain_table("test skill", *headers, *differences)
    for target in (*compared.targets, MEAN):
        if target == MEAN:
            table.add_section()
        cells = [interval_in_words(run.skill(target)) for run in compared.runs]
        cells += [interval_in_words(run.gain_over(first, target), "+.3f") for run in others]
        table.add_row(target, *cells)
    return table


def _sentences(compared: "SideBySide") -> list[str]:
    """Return for each run but the first whether it is better, and on what that rests."""
    from taskgroup.study.side_by_side import MEAN
    from taskgroup.tracking.verdict import interval_in_words

    first, *others = compared.runs
    basis = f"{compared.n_rows} common test rows, {len(compared.targets)} common targets"
    sentences = []
    for run in others:
        gain = run.gain_over(first, MEAN)
        words = interval_in_words(gain, "+.3f")
        sentences.append(f"{run.name} is {_word(gain)} {first.name}: {words} mean skill ({basis}).")
    return sentences


def _word(gain: "Interval") -> str:
    if not gain.excludes_zero():
        return "not shown to differ from"
    return "better than" if gain.mean > 0 else "worse than"
