"""Verbs that tell what a run has learnt: who helped whom, what more rows would buy."""

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)
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
    """Show what learning together gave each target, and which affinity foretold it."""
    import pandas as pd

    from taskgroup.study.transfer import study_transfer
    from taskgroup.tracking.transfer_report import write_transfer

    report = study_transfer(run, gradients=gradients)
    if out is not None:
        write_transfer(report, out)
    if form == "json":
        click.echo(json.dumps(report.to_dict(), indent=1, allow_nan=False))
    elif form == "csv":
        click.echo(pd.DataFrame(report.gain_rows()).to_csv(index=False), nl=False)
    else:
        _print(report)


@click.command("learning-curve")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--share",
    "shares",
    type=float,
    multiple=True,
    help="Of the training rows; default: 1/8, 1/4, 1/2, 1.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def learning_curve(run: Path, shares: tuple[float, ...], form: str) -> None:
    """Train the exported grouping on parts of the rows and test each; the report then shows the curve."""
    from taskgroup.study.learning_curve import SHARES
    from taskgroup.study.learning_curve import learning_curve as measure

    points = measure(run, shares or SHARES)
    if form == "json":
        click.echo(json.dumps([point.to_dict() for point in points], indent=1, allow_nan=False))
        return
    from rich.table import Table

    from taskgroup.cli._console import make_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test skill with")
    for point in points:
        table.add_column(f"{point.rows:.0f} rows", justify="right")
    for target in points[0].skills:
        table.add_row(target, *(f"{point.skills[target].mean:.3f}" for point in points))
    table.add_section()
    means = [point.mean for point in points]
    table.add_row("mean", *(f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]" for mean in means))
    make_console().print(table)


def _print(report: Any) -> None:
    from taskgroup.cli._console import make_console

    console = make_console()
    console.print(
        _table("Gain of learning together (skill, against the target alone)", report.gain_rows())
    )
    for gain in report.negative:
        console.print(
            f"Negative transfer: {gain.target} loses {-gain.mean:.3f} in {{{', '.join(gain.group)}}}"
        )
    if report.unpaired:
        console.print(
            f"{report.unpaired} groups have no single-target run of the same recipe to compare with"
        )
    console.print(
        _table("Which measure foretells the pairwise gains? (Spearman)", report.measure_rows())
    )
    if report.curse is not None:
        curse = report.curse
        console.print(
            f"Winner's curse: validation {_number(curse.validation)}, re-evaluated {_number(curse.reevaluation)}, "
            f"test {_number(curse.test)}; {_number(curse.optimism)} of the validation value was luck"
        )


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else ("nothing to compare yet",):
        table.add_column(
            name, justify="left" if name in ("target", "group", "verdict", "measure") else "right"
        )
    for row in rows:
        table.add_row(
            *(_number(v) if isinstance(v, float) or v is None else str(v) for v in row.values())
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
