"""From a folder of densities, or of structures, and a property table to a store.

    read_properties -> find_densities -> parts, in processes: read, standardise, write -> finish_store

Whatever stops it, what is written stays written: the same call goes on. What is refused is recorded with the reason
(``refused.csv`` in the store) and not tried again unless asked to.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup import files
from taskgroup.datasets.extensive import per_primitive_cell
from taskgroup.datasets.ingest.parts import PartJob, check_job, run_jobs, write_job
from taskgroup.datasets.ingest.sources import Matched, Source, find_densities, find_structures
from taskgroup.datasets.store import (
    Refused,
    StoreSettings,
    begin_store,
    finish_store,
    read_manifest,
    read_progress,
    reopen_store,
)
from taskgroup.datasets.store.manifest import MANIFEST
from taskgroup.datasets.tables import Properties, TargetsAsked, read_properties
from taskgroup.densities import DEFAULT_SPACING
from taskgroup.densities.standardise import check_grid
from taskgroup.errors import ConfigError, InputError, StoreError
from taskgroup.machine import available_cores

if TYPE_CHECKING:
    from taskgroup.datasets.tables.properties import Tables

OnProgress = Callable[[int, int], None]

# densities; a new process imports for two seconds
_WORTH_A_PROCESS = 16
# rows of one note each that a report lists; refused.csv and --json have them all
_NOTED_ROWS = 5


@dataclass(frozen=True)
class IngestReport:
    """Outcome of an ingest, or of a check: what came in, and what did not.

    ``n_rows`` rows are in the store. ``refused`` were turned away. ``without_density`` are rows of the table for which
    there was no source, ``without_row`` sources that no row of the table speaks of. ``notes`` tell what was guessed.
    ``waiting`` rows are left to other machines; the store is complete when none is. ``left_out`` are rows and columns
    of the table that are not in. ``row_notes`` say by row id what is odd about a row that is in.
    """

    path: Path
    n_rows: int
    refused: tuple[Refused, ...]
    without_density: tuple[str, ...]
    without_row: tuple[str, ...]
    notes: tuple[str, ...]
    waiting: int = 0
    left_out: tuple[Refused, ...] = ()
    row_notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Inputs:
    """A property table with the source of each row."""

    properties: Properties
    matched: Matched
    settings: StoreSettings


@dataclass(frozen=True)
class _Work:
    """How the work is done: by whom, what is tried again, and the share of this machine."""

    how: "Reading"
    retry: bool
    shard: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """What is read, and how; ``ingest``, ``check`` and ``promolecules`` take these fields by name.

    Args:
        id_column, targets: see ``read_properties``. A column ``electrons`` states the valence electrons of a row.
        match: where the id of a row stands in the path of its file, such as ``{id}/static``; guessed by default.
        grid, spacing: points per axis, the same for every cell, or the distance of points in Å, by default 0.2.
        sigma: Gaussian width in Å, see ``densities.standardise``.
        all_electron: take AECCAR0 + AECCAR2, and files that hold core electrons.
        frame: which configuration of files with several, 0 is the first, -1 the last.
        workers: processes; 1 works in this one. By default one per CPU, and one for every 16 densities at most.
        progress: called with rows done and rows in all after each part.
    """

    id_column: str | None = None
    targets: TargetsAsked = None
    match: str | None = None
    grid: int | None = None
    spacing: float | None = None
    sigma: float = 0.20
    all_electron: bool = False
    frame: int | None = None
    workers: int | None = None
    progress: OnProgress = lambda done, total: None


def ingest(
    folder: str | Path,
    properties: "Tables",
    out: str | Path,
    *,
    retry: bool = False,
    shard: tuple[int, int] = (1, 1),
    **reading: Any,
) -> IngestReport:
    """Build the store ``out`` from the density files under ``folder`` and one or several property tables.

    Args:
        folder: a folder, or a tar or zip archive; archives under a folder are read as if they were folders.
        retry: try again what was refused before.
        shard: (k, N) does the share of machine k of N, each called with the same N. They may share the folder ``out``,
            at the same time too, or their folders are copied into one and any of them called once more; whichever
            finds all rows there makes the store complete. Its hash is that of a store which one machine made.
        reading: fields of ``Reading``.

    Raises InputError where the table, the folder or the store break a rule; a bad density file does not stop it.
    """
    how = Reading(**reading)
    inputs = _find_inputs(folder, properties, how, Path(out))
    return _build(Path(out), inputs, _Work(how, retry, shard))


def check(folder: str | Path, properties: "Tables", **reading: Any) -> IngestReport:
    """Do all that ``ingest`` does but write: read every density and report what would come in, and what not."""
    how = Reading(**reading)
    inputs = _find_inputs(folder, properties, how)
    inputs.properties.table.check()
    sources = inputs.matched.sources
    refused: list[Refused] = []
    row_notes: dict[str, str] = {}
    n_done = 0
    how.progress(0, len(sources))
    todo = sources
    while todo:
        jobs = [
            PartJob(Path(), number, batch, inputs.settings)
            for number, batch in enumerate(_batches(todo, _WORTH_A_PROCESS))
        ]
        todo = ()
        for done in run_jobs(check_job, jobs, _n_workers(how.workers, len(sources))):
            refused += done.refused
            row_notes |= done.notes
            todo += done.left
            n_done += done.n_sources
            how.progress(n_done, len(sources))
    order = {source.id: place for place, source in enumerate(sources)}
    refused.sort(key=lambda entry: order[entry.id])
    refused_ids = {entry.id for entry in refused}
    rows = {source.id for source in sources} - refused_ids
    return _report(Path(folder), inputs, rows, tuple(refused), row_notes, waiting=0)


def promolecules(
    structures: str | Path,
    properties: "Tables",
    out: str | Path,
    *,
    retry: bool = False,
    shard: tuple[int, int] = (1, 1),
    **reading: Any,
) -> IngestReport:
    """Build a store of promolecular densities (free atoms laid over each other), where there is no DFT.

    ``structures`` is a ``.jsonl`` file of structures, compressed or not, or a folder of structure files; all else as
    for ``ingest``.
    """
    how = Reading(**reading)
    table = read_properties(properties, id_column=how.id_column, targets=how.targets)
    matched = find_structures(Path(structures), dict.fromkeys(table.table.ids), how.match)
    settings = _settings("promolecule", how, Path(out))
    inputs = _Inputs(table, _with_stated(matched, table, how), settings)
    return _build(Path(out), inputs, _Work(how, retry, shard))


def _find_inputs(
    folder: str | Path, tables: "Tables", how: Reading, out: Path | None = None
) -> _Inputs:
    properties = read_properties(tables, id_column=how.id_column, targets=how.targets)
    ids = dict.fromkeys(properties.table.ids)
    matched = find_densities(Path(folder), ids, how.all_electron, how.match)
    kind = "all-electron" if how.all_electron else "valence"
    settings = _settings(kind, how, out)
    return _Inputs(properties, _with_stated(matched, properties, how), settings)


def _settings(kind: str, how: Reading, out: Path | None) -> StoreSettings:
    """Return the settings of a store; without a grid or spacing those of the store ``out``, if it was begun.

    Raises ConfigError: both a grid and a spacing are given, or impossible ones.
    """
    grid, spacing = how.grid, how.spacing
    if grid is not None and spacing is not None:
        raise ConfigError(
            f"grid, spacing: give one of them, found grid {grid} and spacing {spacing}"
        )
    if grid is None and spacing is None:
        grid, spacing = None, DEFAULT_SPACING
        if out is not None and (out / MANIFEST).exists():
            begun = read_manifest(out)
            grid, spacing = begun.grid, begun.spacing
    if grid is not None:
        check_grid(grid, how.sigma)
    elif not 0 < spacing < math.inf:
        raise ConfigError(f"spacing: must be a length in Å above 0, found {spacing}")
    return StoreSettings(kind, grid, spacing, how.sigma)


def _with_stated(matched: Matched, properties: Properties, how: Reading) -> Matched:
    """Give each source what the table and the caller state of its row."""
    sources = []
    per_cell = any(spec.per == "cell" for spec in properties.table.specs)
    for source in matched.sources:
        electrons = properties.electrons.get(source.id)
        formula = properties.formulas.get(source.id)
        stated = replace(
            source,
            electrons=electrons,
            formula=formula,
            labelled_per_cell=per_cell,
            frame=how.frame,
        )
        sources.append(stated)
    return replace(matched, sources=tuple(sources))


def _build(out: Path, inputs: _Inputs, work: _Work) -> IngestReport:
    machine, machines = work.shard
    if not 1 <= machine <= machines:
        raise InputError(
            f"shard: must be machine k of N with 1 <= k <= N, found {machine} of {machines}"
        )
    inputs.properties.table.check()
    sources = inputs.matched.sources
    begun = begin_store(out, inputs.settings, len(sources))
    share = _share(sources, begun.part_rows, work.shard)
    todo = []
    for source in share:
        was_refused = source.id in begun.refused and not work.retry
        if source.id not in begun.rows and not was_refused:
            todo.append(source)
    if todo:
        reopen_store(out)
    n_done = len(share) - len(todo)
    work.how.progress(n_done, len(share))
    while todo:
        batches = _batches(todo, begun.part_rows)
        parts = read_progress(out).next_parts(len(batches), work.shard)
        jobs = [
            PartJob(out, part, batch, inputs.settings)
            for part, batch in zip(parts, batches, strict=True)
        ]
        workers = _n_workers(work.how.workers, len(todo))
        # Densities of large cells that did not fit into their part come in another round.
        todo = []
        for done in run_jobs(write_job, jobs, workers):
            todo += done.left
            n_done += done.n_sources
            work.how.progress(n_done, len(share))
    return _finish(out, inputs)


def _batches(sources: Sequence[Source], size: int) -> list[tuple[Source, ...]]:
    starts = range(0, len(sources), size)
    return [tuple(sources[start : start + size]) for start in starts]


def _n_workers(asked: int | None, n_sources: int) -> int:
    return asked or min(available_cores(), math.ceil(n_sources / _WORTH_A_PROCESS))


def _share(sources: Sequence[Source], part_rows: int, shard: tuple[int, int]) -> list[Source]:
    """Return the share of machine k of N: every N-th run of sources as long as a part, so that neighbours share one."""
    machine, machines = shard
    share = []
    for number, source in enumerate(sources):
        part = number // part_rows
        if part % machines == machine - 1:
            share.append(source)
    return share


def _finish(out: Path, inputs: _Inputs) -> IngestReport:
    """Complete the store if all its rows are there, and report."""
    progress = read_progress(out)
    ids = {source.id for source in inputs.matched.sources}
    refused = tuple(entry for row_id, entry in progress.refused.items() if row_id in ids)
    n_waiting = sum(
        row_id not in progress.rows and row_id not in progress.refused for row_id in ids
    )
    report = _report(out, inputs, set(progress.rows), refused, progress.notes, n_waiting)
    _write_refused(out / "refused.csv", report)
    if n_waiting:
        return report
    if not progress.rows:
        raise StoreError(
            f"{out}: all {len(refused)} were refused, the first because: {refused[0].reason}"
        )
    finish_store(out, per_primitive_cell(inputs.properties.table, progress.cells), out.name)
    return report


def _report(
    path: Path,
    inputs: _Inputs,
    rows: set[str],
    refused: tuple[Refused, ...],
    row_notes: dict[str, str],
    waiting: int,
) -> IngestReport:
    properties, matched = inputs.properties, inputs.matched
    table = properties.table
    all_refused = (*matched.refused, *refused)
    accounted = rows | {source.id for source in matched.sources}
    accounted |= {entry.id for entry in all_refused}
    notes = [*properties.notes, *matched.notes, *_summary(row_notes)]
    if not waiting and rows:
        is_in = [row_id in rows for row_id in table.ids]
        if any(is_in):
            problems = table.rows(is_in).problems()
            notes += [
                f"{line} among the rows in the store: no study can learn it" for line in problems
            ]
    left_out = [Refused(entry.what, entry.source, entry.reason) for entry in properties.left_out]
    return IngestReport(
        path=path,
        n_rows=sum(row_id in rows for row_id in table.ids),
        refused=all_refused,
        without_density=tuple(row_id for row_id in table.ids if row_id not in accounted),
        without_row=matched.without_row,
        notes=tuple(notes),
        waiting=waiting,
        left_out=tuple(left_out),
        row_notes=tuple(row_notes.items()),
    )


def _summary(row_notes: dict[str, str]) -> list[str]:
    """Return the first notes on rows, and how many more there are."""
    lines = [f"row '{row_id}': {note}" for row_id, note in list(row_notes.items())[:_NOTED_ROWS]]
    if len(row_notes) > _NOTED_ROWS:
        lines.append(f"{len(row_notes) - _NOTED_ROWS} more rows have such a note, see refused.csv")
    return lines


def _write_refused(path: Path, report: IngestReport) -> None:
    """Write every row and column that is not in, and what is odd about rows that are."""
    rows = [["id", "source", "reason"]]
    for entry in (*report.refused, *report.left_out):
        rows.append([entry.id, entry.source, entry.reason])
    rows += [[row_id, "taken, with a note", note] for row_id, note in report.row_notes]
    files.write_csv(path, rows)
