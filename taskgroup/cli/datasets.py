"""Verbs that make and show datasets: data ingest, check, promolecule, fetch-mp, info, show."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskgroup.cli._options import output_format
from taskgroup.errors import printable

if TYPE_CHECKING:
    from taskgroup.datasets.ingest import IngestReport

_MP_ID = re.compile(r"\b(?:mp|mvc)-\w+")
# names in a list before "and N more"; refused.csv and --json have them all
_SHOWN = 5


def _parse_shard(context: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    machine, stroke, machines = value.partition("/")
    if not (stroke and machine.isdecimal() and machines.isdecimal()):
        raise click.BadParameter(f"must be K/N, such as 3/16, found '{value}'")
    return int(machine), int(machines)


_READING = [
    click.option(
        "--properties",
        required=True,
        multiple=True,
        metavar="TABLE",
        help="CSV, Excel, Parquet, JSON, ... with an id column; several are joined by id.",
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
        "--match",
        metavar="PATTERN",
        help="Where the id stands in a file's path, such as '{id}/static'; guessed by default.",
    ),
    click.option(
        "--spacing",
        type=click.FloatRange(0.05, 2),
        help="Largest distance of grid points, Å.  [default: 0.2]",
    ),
    click.option(
        "--grid",
        type=click.IntRange(4, 512),
        help="Points per axis, the same for every cell, in place of a spacing.",
    ),
    click.option(
        "--sigma",
        type=click.FloatRange(0, 5),
        default=0.20,
        show_default=True,
        help="Smoothing width, Å.",
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), help="Processes.  [default: one per CPU]"
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
    output_format("text", "json"),
]
_WRITING = [
    click.option(
        "--out",
        required=True,
        metavar="STORE",
        help="Folder of the store; the same call goes on with it.",
    ),
    click.option("--retry", is_flag=True, help="Try again what was refused before."),
    click.option(
        "--shard",
        default="1/1",
        metavar="K/N",
        callback=_parse_shard,
        help="Do the share of machine K of N; the last to end completes the store.",
    ),
]
_OF_DENSITIES = [
    click.option(
        "--all-electron",
        is_flag=True,
        help="Take AECCAR0 + AECCAR2, and files that hold core electrons.",
    ),
    click.option(
        "--frame",
        type=int,
        metavar="N",
        help="Which of several configurations in a file: 0 is the first, -1 the last.",
    ),
]


def _with(*option_lists: list[Callable]) -> Callable[[Callable], Callable]:
    """Return a decorator that adds options, in their order."""

    def add(command: Callable) -> Callable:
        options = [option for options in option_lists for option in options]
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def data() -> None:
    """Make and look at datasets."""


@data.command()
@click.argument("folder", metavar="DIR|ARCHIVE")
@_with(_READING, _OF_DENSITIES, _WRITING)
def ingest(folder: str, properties: tuple[str, ...], out: str, **options: Any) -> None:
    """Build a store from density files (CHGCAR, cube, ...) and one or several property tables.

    A file belongs to the row whose id is its name without endings (mp-19.CHGCAR.gz) or a folder above it
    (mp-19/CHGCAR, mp-19/static/CHGCAR). Archives (tar, zip) are read as if they were folders. A column 'electrons'
    states the valence electrons of a row.

    \b
    Example: taskgroup data ingest calcs --properties table.xlsx --out mydata
    """
    from taskgroup.datasets import ingest as build

    def run(**choices: Any) -> "IngestReport":
        return build(folder, properties, out, **choices)

    _build(run, out, **options)


@data.command()
@click.argument("folder", metavar="DIR|ARCHIVE")
@_with(_READING, _OF_DENSITIES)
def check(folder: str, properties: tuple[str, ...], **options: Any) -> None:
    """Do all of ingest but write: read every file, and print what would come in and what not, with reasons.

    \b
    Example: taskgroup data check calcs --properties table.csv
    """
    from taskgroup.datasets import check as examine

    def run(**choices: Any) -> "IngestReport":
        return examine(folder, properties, **choices)

    _build(run, None, **options)


@data.command()
@click.argument("structures")
@_with(_READING, _WRITING)
def promolecule(structures: str, properties: tuple[str, ...], out: str, **options: Any) -> None:
    """Build a store of densities of free atoms from STRUCTURES, where there is no DFT.

    STRUCTURES is a folder of structure files (CIF, POSCAR, ...), or a .jsonl(.gz) file of {id, lattice, species,
    frac_coords}.

    \b
    Example: taskgroup data promolecule cifs --properties table.csv --out mydata
    """
    from taskgroup.datasets import promolecules

    def run(**choices: Any) -> "IngestReport":
        return promolecules(structures, properties, out, **choices)

    _build(run, out, **options)


def _build(
    run: Callable[..., "IngestReport"],
    out: str | None,
    targets: str | None,
    quiet: bool,
    form: str,
    **options: Any,
) -> None:
    asked: str | list[str] | None = targets
    if targets is not None and not targets.endswith((".yaml", ".yml")):
        asked = _names(targets)
    with _progress(quiet) as show:
        try:
            report = run(targets=asked, progress=show, **options)
        except KeyboardInterrupt:
            if out is not None:
                click.echo(
                    f"{out}: stopped; what is done is kept, run the same command to go on",
                    err=True,
                )
            raise
    if form == "json":
        _print_report_json(report)
    elif not quiet:
        _show_report(report, written=out is not None)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, a plain line every tenth elsewhere; both on stderr."""
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        last_tenth = -1

        def line(done: int, total: int) -> None:
            nonlocal last_tenth
            tenth = 10 * done // max(total, 1)
            if tenth > last_tenth:
                last_tenth = tenth
                click.echo(f"densities: {done} of {total}", err=True)

        yield line


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("densities"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("densities", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_report_json(report: Any) -> None:
    from taskgroup.cli._console import print_json

    print_json({**asdict(report), "path": str(report.path)})


def _show_report(report: "IngestReport", written: bool) -> None:
    for note in report.notes:
        click.echo(printable(f"note: {note}"))
    for what, names in (
        ("rows without a density", report.without_density),
        ("sources without a row", report.without_row),
    ):
        if names:
            click.echo(printable(f"{len(names)} {what}: {_some(names)}"))
    for entry in report.refused[:_SHOWN]:
        click.echo(printable(f"refused: {entry.id}: {entry.reason}"))
    if report.refused and written:
        click.echo(
            f"{len(report.refused)} refused in all, see {report.path / 'refused.csv'}; "
            "--retry tries them again"
        )
    elif report.refused:
        click.echo(f"{len(report.refused)} refused in all; --json lists them")
    if not written:
        click.echo(f"{report.path}: {report.n_rows} rows would come in; nothing was written")
        return
    waiting = ""
    if report.waiting:
        waiting = f", not complete: {report.waiting} are left to other machines"
    click.echo(f"{report.path}: {report.n_rows} rows{waiting}")


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown += f" and {len(names) - _SHOWN} more"
    return shown


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
    help="Most requests per second.",
)
@click.option("--retry", is_flag=True, help="Ask again for entries that had no density before.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@output_format("text", "json")
def fetch_mp(out: str, ids: str, rate: float, retry: bool, quiet: bool, form: str) -> None:
    """Download densities and properties of Materials Project entries into DIR, for data ingest.

    The key is read from MP_API_KEY. What is in DIR already is not downloaded again.

    \b
    Example: taskgroup data fetch-mp mp --ids mp-149,mp-13
    """
    from taskgroup.datasets.fetch_mp import fetch_mp as fetch

    with _progress(quiet) as show:
        report = fetch(_read_ids(ids), out, rate=rate, retry=retry, progress=show)
    if form == "json":
        _print_report_json(report)
        return
    if quiet:
        return
    if report.left_out:
        names = ", ".join(report.left_out)
        click.echo(f"without two different values, left out of properties.csv: {names}")
    if report.missing:
        names = _some(tuple(report.missing))
        click.echo(f"{len(report.missing)} without a density, see missing.csv: {names}")
    click.echo(f"{report.path}: {report.n_densities} densities")
    table = Path(out) / "properties.csv"
    click.echo(f"next: taskgroup data ingest {out} --properties {table} --out STORE")


def _read_ids(text: str) -> list[str]:
    """Return the ids in a list, or the first one of each line of a file."""
    if Path(text).is_file():
        lines = Path(text).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    else:
        lines = text.split(",")
    matches = [_MP_ID.search(line) for line in lines]
    ids = [match[0] for match in matches if match is not None]
    if not ids:
        raise click.BadParameter(
            f"neither ids such as mp-149 nor a file that has any: '{text}'", param_hint="--ids"
        )
    return ids


@data.command()
@click.argument("dataset", metavar="STORE")
@click.option(
    "--verify", is_flag=True, help="Read every density and compare it with what was stored."
)
@output_format("table", "json")
def info(dataset: str, form: str, verify: bool) -> None:
    """Show rows, targets, splits and hash of a store (a folder, or an fsspec URL) or a built-in dataset.

    Notes tell what to look at: sentinels, impossible values, units, transforms, duplicates, leaks.

    \b
    Example: taskgroup data info crystals
    """
    from taskgroup.cli._console import print_json
    from taskgroup.datasets import (
        describe,
        load_dataset,
        quality_notes,
        vacuum_notes,
        verify_store,
    )
    from taskgroup.datasets.load import BUILT_IN

    if verify and dataset not in BUILT_IN:
        verify_store(dataset)
    opened = load_dataset(dataset)
    facts = describe(opened) | {"notes": [*quality_notes(opened), *vacuum_notes(opened)]}
    if form == "json":
        print_json(facts)
    else:
        _show_facts(facts)


@data.command()
@click.argument("source", metavar="FILE|STORE")
@click.option("--id", "row_id", metavar="ID", help="The row of a store to show.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with slices, projections and spectrum.",
)
@click.option(
    "--electrons",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="The valence electrons in the file, within 1 %.",
)
@_with(_OF_DENSITIES)
@output_format("text", "json")
def show(source: str, row_id: str | None, page: Path | None, form: str, **stated: Any) -> None:
    """Show one density: numbers, spectrum, a projection, what a network sees, and its peaks beside its atoms.

    \b
    Example: taskgroup data show mp-1/CHGCAR --html density.html
             taskgroup data show crystals --id Si-diamond
    """
    from taskgroup import files
    from taskgroup.cli._console import print_json
    from taskgroup.cli._portrait import as_json, lines_of, page_of, shown_file, shown_row

    shown = shown_file(source, **stated) if row_id is None else shown_row(source, row_id)
    if page is not None:
        files.write_text(page, page_of(shown))
    if form == "json":
        print_json(as_json(shown))
        return
    for line in lines_of(shown):
        click.echo(line)
    if page is not None:
        click.echo(f"\nWrote {page}")


def _show_facts(facts: dict[str, Any]) -> None:
    from taskgroup.cli._console import make_console

    console = make_console()
    console.print(f"{facts['name']} ({facts['version']}): {facts['n_rows']} rows, ", end="")
    console.print(f"{facts['n_formulas']} formulas, {facts['n_chemical_systems']} chemical systems")
    console.print(
        f"{facts['kind']} densities, {facts['n_channels']} x {_grid(facts)}, smoothed by {facts['sigma']} Å"
    )
    console.print(f"hash {facts['hash']}", soft_wrap=True)
    console.print(_target_table(facts["targets"]))
    for by, folds in facts["splits"].items():
        sizes = f"{folds['sizes']}, id {folds['id']}" if folds else "too few groups"
        console.print(f"folds by {by}: {sizes}")
    for note in facts["notes"]:
        console.print(printable(f"note: {note}"), soft_wrap=True, markup=False)


def _grid(facts: dict[str, Any]) -> str:
    """Return the grid of a dataset in words."""
    if facts["spacing"] is None:
        return "x".join([str(facts["grid"])] * 3)
    points = facts["points"]
    return (
        f"a point every {facts['spacing']} Å ({points['min']} to {points['max']} points per row, "
        f"median {points['median']})"
    )


def _target_table(targets: list[dict[str, Any]]) -> Any:
    from rich.table import Column, Table

    numbers = ("n", "missing", "mean", "std", "min", "max")
    longest = max(len(target["name"]) for target in targets)
    table = Table(Column("target", min_width=longest), "unit", "transform", *numbers, box=None)
    for target in targets:
        learnt = target["transform"] if target["kind"] == "regression" else "class"
        cells = [_number(target[name]) for name in numbers]
        table.add_row(target["name"], target["unit"], learnt, *cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
