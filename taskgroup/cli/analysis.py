"""Verbs that tell what a run has learnt: who helped whom, what more rows would buy."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskgroup.cli._options import output_format

if TYPE_CHECKING:
    from rich.table import Table

    from taskgroup.study.helpers import HelpersOfTarget
    from taskgroup.tracking.learning_points import LearningPoint
    from taskgroup.tracking.transfer_report import TransferReport

# Columns of text; all others hold numbers and are right-justified.
_TEXT_COLUMNS = ("target", "group", "verdict", "measure")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@output_format("table", "csv", "json")
@click.option(
    "--gradients",
    is_flag=True,
    help="Train one more joint network to measure gradient affinities too.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write gains.csv, measures.csv and transfer.json to this folder.",
)
def transfer(run: Path, form: str, gradients: bool, out: Path | None) -> None:
    """Show what learning together gave each target, and which affinity predicted it."""
    import pandas as pd

    from taskgroup.cli._console import print_json
    from taskgroup.files import csv_text
    from taskgroup.study.transfer import study_transfer
    from taskgroup.tracking.transfer_report import write_transfer

    report = study_transfer(run, gradients=gradients)
    if out is not None:
        write_transfer(report, out)
    if form == "json":
        print_json(report.to_dict())
    elif form == "csv":
        click.echo(csv_text(pd.DataFrame(report.gain_rows())), nl=False)
    else:
        _print_transfer(report)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("target")
@output_format("table", "json")
def helpers(run: Path, target: str, form: str) -> None:
    """Show which properties of a run help TARGET: what it is expected to gain by learning with each of them.

    A gain is a difference of skill to TARGET alone, on validation rows, with its 95 % interval.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.study.helpers import helpers_of

    found = helpers_of(run, target)
    if form == "json":
        print_json(asdict(found))
        return
    _print_helpers(found)


def _print_helpers(found: "HelpersOfTarget") -> None:
    from taskgroup.cli._console import plain_table, print_table
    from taskgroup.tracking.verdict import interval_in_words

    table = plain_table("learned with", f">expected gain of {found.target}", ">helps", ">networks")
    for helper in found.helpers:
        gain = interval_in_words(helper.gain, "+.3f")
        table.add_row(helper.name, gain, f"{helper.probability:.0%}", str(helper.networks))
    print_table(table)
    best = ", ".join(found.best)
    click.echo(
        f"Best network so far for {found.target}: {{{best}}}, {interval_in_words(found.best_gain, '+.3f')} over alone"
    )


@click.command("learning-curve")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--share",
    "shares",
    type=float,
    multiple=True,
    help="Of the training rows; default: 1/8, 1/4, 1/2, 1.",
)
@output_format("table", "json")
def learning_curve(run: Path, shares: tuple[float, ...], form: str) -> None:
    """Train the exported grouping on parts of the rows and test each; the report then shows the curve."""
    from taskgroup.cli._console import print_json, print_table
    from taskgroup.study.learning_curve import SHARES
    from taskgroup.study.learning_curve import learning_curve as measure

    points = measure(run, shares or SHARES)
    if form == "json":
        print_json([point.to_dict() for point in points])
    else:
        print_table(_learning_table(points))


def _learning_table(points: "list[LearningPoint]") -> "Table":
    from taskgroup.cli._console import plain_table
    from taskgroup.tracking.verdict import interval_in_words

    headers = [f">{point.rows:.0f} rows" for point in points]
    table = plain_table("test skill with", *headers)
    for target in points[0].skills:
        skills = [f"{point.skills[target].mean:.3f}" for point in points]
        table.add_row(target, *skills)
    table.add_section()
    table.add_row("mean", *(interval_in_words(point.mean) for point in points))
    return table


def _print_transfer(report: "TransferReport") -> None:
    from taskgroup.cli._console import make_console

    console = make_console()
    title = "Gain of learning together (skill, against the target alone)"
    console.print(_table(title, report.gain_rows()))
    for gain in report.negative:
        group = ", ".join(gain.group)
        console.print(f"Negative transfer: {gain.target} loses {-gain.mean:.3f} in {{{group}}}")
    if report.unpaired:
        console.print(
            f"{report.unpaired} groups have no single-target run of the same recipe to compare with"
        )
    title = "Rank correlation of each measure with the pairwise gains (Spearman)"
    console.print(_table(title, report.measure_rows()))
    curse = report.curse
    if curse is not None:
        console.print(
            f"Winner's curse: validation {_number(curse.validation)}, re-evaluated "
            f"{_number(curse.reevaluation)}, test {_number(curse.test)}; {_number(curse.optimism)} "
            "of the validation value was luck"
        )


def _table(title: str, rows: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    if not rows:
        table.add_column("nothing to compare yet")
        return table
    for name in rows[0]:
        table.add_column(name, justify="left" if name in _TEXT_COLUMNS else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return _number(value)
    return str(value)


def _number(value: float | None) -> str:
    from taskgroup.tracking.verdict import number_in_words

    return number_in_words(value, "+.3f")
