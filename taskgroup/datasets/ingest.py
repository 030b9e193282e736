"""From a folder of densities, or of structures, and a property table to a store.

    table = read_properties -> sources = find_densities -> parts, in processes: read, standardise, write -> finish_store

Whatever stops it, what is written stays written: the same call goes on. What is refused is recorded with the reason
(``refused.csv`` in the store) and not tried again unless asked to.
"""

import csv
import math
import os
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from taskgroup import files
from taskgroup.datasets.dataset import to_float16
from taskgroup.datasets.sources import Matched, Source, find_densities, find_structures
from taskgroup.datasets.store import (
    Refused,
    Row,
    StoreSettings,
    begin_store,
    finish_store,
    read_progress,
    reopen_store,
    write_part,
)
from taskgroup.datasets.tables import Properties, read_properties
from taskgroup.densities import (
    Density,
    promolecule,
    read_density,
    read_structure,
    standardise,
    structure_of_line,
)
from taskgroup.errors import InputError, StoreError, TaskgroupError

TargetsSaid = Mapping[str, Mapping[str, str]] | Iterable[str] | str | Path | None
OnProgress = Callable[[int, int], None]
_WORTH_A_PROCESS = 16  # densities; a new process imports for two seconds


@dataclass(frozen=True)
class IngestReport:
    """What came in, and what did not.

    ``n_rows`` rows are in the store. ``refused`` were turned away. ``without_density`` are rows of the table for which
    there was no source, ``without_row`` sources that no row of the table speaks of. ``notes`` tell what was guessed.
    ``waiting`` rows are left to other machines; the store is complete when none is.
    """

    path: Path
    n_rows: int
    refused: tuple[Refused, ...]
    without_density: tuple[str, ...]
    without_row: tuple[str, ...]
    notes: tuple[str, ...]
    waiting: int = 0


@dataclass(frozen=True)
class _PartJob:
    """What a process needs to make one part."""

    path: Path
    part: int
    sources: tuple[Source, ...]
    settings: StoreSettings


def ingest(
    folder: str | Path,
    properties: str | Path,
    out: str | Path,
    *,
    id_column: str | None = None,
    targets: TargetsSaid = None,
    grid: int = 32,
    sigma: float = 0.20,
    all_electron: bool = False,
    workers: int | None = None,
    retry: bool = False,
    shard: tuple[int, int] = (1, 1),
    progress: OnProgress = lambda done, total: None,
) -> IngestReport:
    """Build the store ``out`` from the density files under ``folder`` and a property table.

    Args:
        id_column, targets: see ``read_properties``.
        grid, sigma: points an axis and Gaussian width in Å, see ``densities.standardise``.
        all_electron: take AECCAR0 + AECCAR2, and files that hold core electrons.
        workers: processes; 1 works in this one. By default one a CPU, and one for every 16 densities at most.
        retry: try again what was refused before.
        shard: (k, N) does the share of machine k of N, each called with the same N. They may share the folder ``out``,
            at the same time too, or their folders are copied into one and any of them called once more; whichever
            finds all rows there makes the store complete. Its hash is that of a store which one machine made.
        progress: called with rows done and rows in all after each part.

    Raises InputError where the table, the folder or the store break a rule; a bad density file does not stop it.
    """
    table = read_properties(properties, id_column=id_column, targets=targets)
    matched = find_densities(Path(folder), dict.fromkeys(table.table.ids), all_electron)
    settings = StoreSettings("all-electron" if all_electron else "valence", grid, sigma)
    return _build(Path(out), table, matched, settings, workers, retry, shard, progress)


def promolecules(
    structures: str | Path,
    properties: str | Path,
    out: str | Path,
    *,
    id_column: str | None = None,
    targets: TargetsSaid = None,
    grid: int = 32,
    sigma: float = 0.20,
    workers: int | None = None,
    retry: bool = False,
    shard: tuple[int, int] = (1, 1),
    progress: OnProgress = lambda done, total: None,
) -> IngestReport:
    """Build a store of promolecular densities (free atoms laid over each other), where there is no DFT.

    ``structures`` is a ``.jsonl(.gz)`` file of structures or a folder of structure files; all else as for ``ingest``.
    """
    table = read_properties(properties, id_column=id_column, targets=targets)
    matched = find_structures(Path(structures), dict.fromkeys(table.table.ids))
    return _build(
        Path(out),
        table,
        matched,
        StoreSettings("promolecule", grid, sigma),
        workers,
        retry,
        shard,
        progress,
    )


def _build(
    out: Path,
    properties: Properties,
    matched: Matched,
    settings: StoreSettings,
    workers: int | None,
    retry: bool,
    shard: tuple[int, int],
    progress: OnProgress,
) -> IngestReport:
    if not 1 <= shard[0] <= shard[1]:
        raise InputError(
            f"shard: must be machine k of N with 1 <= k <= N, found {shard[0]} of {shard[1]}"
        )
    table = properties.table
    table.check()
    begun = begin_store(out, settings, len(matched.sources))
    share = _share(matched.sources, begun.part_rows, shard)
    todo = [
        row
        for row in share
        if not (row.id in begun.rows or (row.id in begun.refused and not retry))
    ]
    batches = [
        tuple(todo[at : at + begun.part_rows]) for at in range(0, len(todo), begun.part_rows)
    ]
    if batches:
        reopen_store(out)
    n_done = len(share) - len(todo)
    progress(n_done, len(share))
    workers = workers or min(os.cpu_count() or 1, math.ceil(len(todo) / _WORTH_A_PROCESS))
    parts = begun.next_parts(len(batches), shard)
    for n in _run(
        [_PartJob(out, part, batch, settings) for part, batch in zip(parts, batches, strict=True)],
        workers,
    ):
        n_done += n
        progress(n_done, len(share))
    return _end(out, properties, matched)


def _share(sources: Sequence[Source], part_rows: int, shard: tuple[int, int]) -> list[Source]:
    """What machine k of N does: every N-th run of sources as long as a part, so that rows of a part are neighbours."""
    machine, machines = shard
    return [row for i, row in enumerate(sources) if i // part_rows % machines == machine - 1]


def _end(out: Path, properties: Properties, matched: Matched) -> IngestReport:
    """Complete the store if all its rows are there, and report."""
    ended, table = read_progress(out), properties.table
    sources = {source.id for source in matched.sources}
    refused = tuple(entry for row, entry in ended.refused.items() if row in sources)
    _write_refused(out / "refused.csv", refused)
    waiting = sum(row not in ended.rows and row not in ended.refused for row in sources)
    notes = list(properties.notes)
    if not waiting:
        if not ended.rows:
            raise StoreError(
                f"{out}: all {len(refused)} were refused, the first because: {refused[0].reason}"
            )
        finish_store(out, table, out.name)
        ill = table.rows([row in ended.rows for row in table.ids]).problems()
        notes += [f"{line} among the rows in the store: no study can learn it" for line in ill]
    return IngestReport(
        path=out,
        n_rows=sum(row in ended.rows for row in table.ids),
        refused=refused,
        without_density=tuple(
            row for row in table.ids if row not in sources and row not in ended.rows
        ),
        without_row=matched.without_row,
        notes=tuple(notes),
        waiting=waiting,
    )


def _run(jobs: Sequence[_PartJob], workers: int) -> Iterator[int]:
    """Make the parts; yields the number of rows of each as it is done."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_make_part, jobs)
        return
    # spawn: a forked child would inherit the threads of BLAS and zarr in an unknown state.
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        with (
            _interrupts_ignored()
        ):  # children inherit it: Ctrl-C is for the parent, what is under way comes to its end
            futures = [pool.submit(_make_part, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise TaskgroupError(
            "a process died while it read densities; what is done is kept, run again to go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # no other may set signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _make_part(job: _PartJob) -> int:
    rows, refused = [], []
    for source in job.sources:
        try:
            rows.append(_row(source, job.settings))
        except InputError as error:
            refused.append(Refused(source.id, str(source), str(error)))
    write_part(job.path, job.part, rows, refused)
    return len(job.sources)


def _row(source: Source, settings: StoreSettings) -> Row:
    density = _density(source, settings)
    formula, chemical_system = _group_keys(density.species)
    return Row(
        id=source.id,
        formula=formula,
        chemical_system=chemical_system,
        species=density.species,
        lattice=density.lattice,
        frac_coords=density.frac_coords,
        density=to_float16(density.values, f"row '{source.id}'"),
    )


def _group_keys(species: Sequence[str]) -> tuple[str, str]:
    """Reduced formula and chemical system, such as ("NaCl", "Cl-Na")."""
    from pymatgen.core import Composition

    composition = Composition(Counter(species))
    with (
        warnings.catch_warnings()
    ):  # the order of the symbols asks for electronegativities; noble gases have none
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return composition.reduced_formula, composition.chemical_system


def _density(source: Source, settings: StoreSettings) -> Density:
    """The standardised density of one source."""
    if settings.kind == "promolecule":
        file = source.files[0]
        structure = (
            read_structure(file)
            if source.line is None
            else structure_of_line(source.line, str(source))
        )
        return promolecule(structure, settings.grid, settings.sigma, str(source))
    files = source.files[0] if len(source.files) == 1 else source.files
    density = read_density(files, all_electron=settings.kind == "all-electron")
    return standardise(density, settings.grid, settings.sigma)


def _write_refused(path: Path, refused: Sequence[Refused]) -> None:
    with files.atomic_path(path) as partial_file, partial_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "reason"])
        writer.writerows([entry.id, entry.source, entry.reason] for entry in refused)
