"""Verbs that make and show datasets: data ingest, data promolecule, data fetch-mp, data info."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from taskgroup.datasets.ingest import IngestReport

_MP_ID = re.compile(r"\b(?:mp|mvc)-\w+")
_SHOWN = 5  # names in a list before "and N more"; refused.csv and --json have them all


def _parse_shard(context: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    machine, stroke, machines = value.partition("/")
    if not (stroke and machine.isdecimal() and machines.isdecimal()):
        raise click.BadParameter(f"must be K/N, such as 3/16, found '{value}'")
    return int(machine), int(machines)


_BUILDING = [
    click.option(
        "--properties",
        required=True,
        metavar="TABLE",
        help="CSV, Parquet or JSON with an id column.",
    ),
    click.option(
        "--out",
        required=True,
        metavar="STORE",
        help="Folder of the store; the same call goes on with it.",
    ),
    click.option(
        "--id-column",
        metavar="NAME",
        help="The column that names the rows; found by itself if called id, ...",
    ),
    click.option(
        "--targets",
        metavar="NAMES|YAML",
        help="Columns to take, a,b,c, or a YAML file that describes them.",
    ),
    click.option(
        "--grid", type=click.IntRange(4, 512), default=32, show_default=True, help="Points an axis."
    ),
    click.option(
        "--sigma",
        type=click.FloatRange(0, 5),
        default=0.20,
        show_default=True,
        help="Smoothing width, Å.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a CPU]"),
    click.option("--retry", is_flag=True, help="Try again what was refused before."),
    click.option(
        "--shard",
        default="1/1",
        metavar="K/N",
        callback=_parse_shard,
        help="Do the share of machine K of N; the last to end completes the store.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
]


def _building(command: Callable) -> Callable:
    for option in reversed(_BUILDING):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Make and look at datasets."""


@data.command()
@click.argument("folder", metavar="DIR")
@_building
@click.option(
    "--all-electron",
    is_flag=True,
    help="Take AECCAR0 + AECCAR2, and files that hold core electrons.",
)
def ingest(folder: str, properties: str, out: str, **options: Any) -> None:
    """Build a store from density files (CHGCAR, cube, ...) and a property table.

    A file belongs to the row whose id is its name without endings (mp-19.CHGCAR.gz) or its folder (mp-19/CHGCAR).
    """
    from taskgroup.datasets import ingest as build

    _build(build, folder, properties, out, **options)


@data.command()
@click.argument("structures")
@_building
def promolecule(structures: str, properties: str, out: str, **options: Any) -> None:
    """Build a store of densities of free atoms from STRUCTURES, where there is no DFT.

    STRUCTURES is a folder of structure files (CIF, POSCAR, ...), or a .jsonl(.gz) file of {id, lattice, species,
    frac_coords}.
    """
    from taskgroup.datasets import promolecules

    _build(promolecules, structures, properties, out, **options)


def _build(
    build: Callable[..., "IngestReport"],
    source: str,
    properties: str,
    out: str,
    targets: str | None,
    workers: int | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    chosen = targets if targets is None or targets.endswith((".yaml", ".yml")) else _names(targets)
    with _progress(quiet) as show:
        try:
            report = build(
                source,
                properties,
                out,
                targets=chosen,
                workers=workers,
                progress=show,
                **options,
            )
        except KeyboardInterrupt:
            click.echo(
                f"{out}: stopped; what is done is kept, run the same command to go on", err=True
            )
            raise
    if as_json:
        click.echo(json.dumps({**asdict(report), "path": str(report.path)}))
    elif not quiet:
        _show_report(report)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a plain line every tenth elsewhere; both on stderr."""
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("densities"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("densities", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        tenths = -1

        def line(done: int, total: int) -> None:
            nonlocal tenths
            if 10 * done // total > tenths:
                tenths = 10 * done // total
                click.echo(f"densities: {done} of {total}", err=True)

        yield line


def _show_report(report: "IngestReport") -> None:
    for note in report.notes:
        click.echo(f"note: {note}")
    for what, names in (
        ("rows without a density", report.without_density),
        ("sources without a row", report.without_row),
    ):
        if names:
            click.echo(f"{len(names)} {what}: {_some(names)}")
    for entry in report.refused[:_SHOWN]:
        click.echo(f"refused: {entry.id}: {entry.reason}")
    if report.refused:
        click.echo(
            f"{len(report.refused)} refused in all, see {report.path / 'refused.csv'}; --retry tries them again"
        )
    left = f", not complete: {report.waiting} are left to other machines" if report.waiting else ""
    click.echo(f"{report.path}: {report.n_rows} rows{left}")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@data.command("fetch-mp")
@click.argument("out", metavar="DIR")
@click.option(
    "--ids",
    required=True,
    metavar="IDS|FILE",
    help="mp-149,mp-13, or a file (list or table) that has them.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 1000),
    default=5,
    show_default=True,
    help="Most requests a second.",
)
@click.option("--retry", is_flag=True, help="Ask again for entries that had no density before.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fetch_mp(out: str, ids: str, rate: float, retry: bool, quiet: bool, as_json: bool) -> None:
    """Download densities and properties of Materials Project entries into DIR, for data ingest.

    The key is read from MP_API_KEY. What is in DIR already is not downloaded again.
    """
    from taskgroup.datasets.fetch_mp import fetch_mp as fetch

    with _progress(quiet) as show:
        report = fetch(_read_ids(ids), out, rate=rate, retry=retry, progress=show)
    if as_json:
        click.echo(json.dumps({**asdict(report), "path": str(report.path)}))
    elif not quiet:
        if report.left_out:
            click.echo(
                f"without two different values, left out of properties.csv: {', '.join(report.left_out)}"
            )
        if report.missing:
            click.echo(
                f"{len(report.missing)} without a density, see missing.csv: {_some(tuple(report.missing))}"
            )
        click.echo(f"{report.path}: {report.n_densities} densities")
        click.echo(
            f"next: taskgroup data ingest {out} --properties {Path(out) / 'properties.csv'} --out STORE"
        )


def _read_ids(text: str) -> list[str]:
    """The ids in a list, or the first one of each line of a file."""
    lines = Path(text).read_text().splitlines() if Path(text).is_file() else text.split(",")
    found = [match[0] for line in lines if (match := _MP_ID.search(line))]
    if not found:
        raise click.BadParameter(
            f"neither ids such as mp-149 nor a file that has any: '{text}'", param_hint="--ids"
        )
    return found


@data.command()
@click.argument("dataset", metavar="STORE")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option(
    "--verify", is_flag=True, help="Read every density and compare it with what was stored."
)
def info(dataset: str, form: str, verify: bool) -> None:
    """Show rows, targets, splits and hash of a store (a folder, or an fsspec URL) or a built-in dataset."""
    from taskgroup.datasets import describe, load_dataset, verify_store
    from taskgroup.datasets.load import BUILT_IN

    if verify and dataset not in BUILT_IN:
        verify_store(dataset)
    facts = describe(load_dataset(dataset))
    if form == "json":
        click.echo(json.dumps(facts))
    else:
        _show_facts(facts)


def _show_facts(facts: dict[str, Any]) -> None:
    from rich.table import Column, Table

    from taskgroup.cli._console import make_console

    console = make_console()
    console.print(f"{facts['name']} ({facts['version']}): {facts['n_rows']} rows, ", end="")
    console.print(f"{facts['n_formulas']} formulas, {facts['n_chemical_systems']} chemical systems")
    grid = "x".join([str(facts["grid"])] * 3)
    console.print(
        f"{facts['kind']} densities, {facts['n_channels']} x {grid}, smoothed by {facts['sigma']} Å"
    )
    console.print(f"hash {facts['hash']}", soft_wrap=True)
    numbers = ("n", "missing", "mean", "std", "min", "max")
    longest = max(len(target["name"]) for target in facts["targets"])
    table = Table(Column("target", min_width=longest), "unit", "transform", *numbers, box=None)
    for target in facts["targets"]:
        learnt = target["transform"] if target["kind"] == "regression" else "class"
        cells = ["-" if target[name] is None else f"{target[name]:.4g}" for name in numbers]
        table.add_row(target["name"], target["unit"], learnt, *cells)
    console.print(table)
    for by, folds in facts["splits"].items():
        console.print(
            f"folds by {by}: "
            + (f"{folds['sizes']}, id {folds['id']}" if folds else "too few groups")
        )
