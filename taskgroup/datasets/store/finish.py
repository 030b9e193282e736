"""Completion of a store: its parts are joined with a table of labels."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup import files
from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.store.manifest import (
    FORMAT,
    PARTS,
    ROWS,
    disk_errors,
    read_manifest,
    write_manifest,
)
from taskgroup.datasets.store.reading import read_rows
from taskgroup.datasets.store.writing import (
    LARGEST_PART_BYTES,
    Progress,
    Row,
    StoreSettings,
    begin_store,
    read_progress,
    reopen_store,
    write_part,
)
from taskgroup.datasets.target import TargetTable
from taskgroup.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa


def finish_store(path: Path, table: TargetTable, name: str) -> None:
    """Join the parts with their labels and mark the store as complete.

    Rows come in the order of ``table``, whatever the order they were written in; rows of either side that the other
    lacks are left out. Raises StoreError: none is left.
    """
    import pyarrow.parquet as pq

    progress = read_progress(path)
    with_density = [number for number, row_id in enumerate(table.ids) if row_id in progress.rows]
    if not with_density:
        raise StoreError(f"{path}: no row has both a density and labels")
    labels = table.rows(with_density)
    columns = _read_records(path, progress, labels.ids)
    for target in labels.names:
        columns = columns.append_column(f"target.{target}", [labels.column(target)])
    with disk_errors(path), files.atomic_path(path / ROWS) as temporary:
        reopen_store(path)
        pq.write_table(columns, temporary, row_group_size=len(labels))
    manifest = replace(
        read_manifest(path),
        name=name,
        targets=labels.specs,
        n_rows=len(labels),
        n_channels=max(columns["n_channels"].to_pylist()),
    )
    with disk_errors(path):
        content_hash = read_rows(path, manifest).hash
        write_manifest(path, replace(manifest, complete=True, hash=content_hash))


def _read_records(path: Path, progress: Progress, ids: Sequence[str]) -> "pa.Table":
    """Read the records of these rows, in their order, as columns: a tenth of what they take as Python objects."""
    import pyarrow as pa

    schema = _schema(read_manifest(path).format)
    wanted_ids = set(ids)
    tables = []
    for part in sorted({progress.rows[row_id] for row_id in ids}):
        record = json.loads((path / PARTS / f"{part:06d}.json").read_text(encoding="utf-8"))
        of_part = {"part": part, "chunks_in_part": record.get("chunks")}
        newest = []
        for row in record["rows"]:
            # an older record of a row may stand in another part
            if row["id"] in wanted_ids and progress.rows[row["id"]] == part:
                newest.append(row | of_part)
        tables.append(pa.Table.from_pylist(newest, schema))
    table = pa.concat_tables(tables).combine_chunks()
    place_by_id = {row_id: place for place, row_id in enumerate(table["id"].to_pylist())}
    return table.take([place_by_id[row_id] for row_id in ids])


def _schema(store_format: int) -> "pa.Schema":
    """Return the columns that say which crystals the rows are, and where their densities lie."""
    import pyarrow as pa

    places = {"position": pa.int64()}
    if store_format == FORMAT:
        places = {
            "part": pa.int64(),
            "chunks_in_part": pa.int64(),
            "first_chunk": pa.int64(),
            "stored_channels": pa.int64(),
            "shape": pa.list_(pa.int64()),
        }
    numbers = pa.list_(pa.float64())
    return pa.schema(
        {
            "id": pa.string(),
            **places,
            "formula": pa.string(),
            "chemical_system": pa.string(),
            "species": pa.list_(pa.string()),
            "lattice": numbers,
            "frac_coords": numbers,
            "n_channels": pa.int64(),
            "digest": pa.string(),
        }
    )


def write_store(path: str | Path, dataset: Dataset) -> None:
    """Write any dataset as a store; ``load_dataset(path)`` then has the same hash.

    Written part by part, so a dataset larger than memory passes through; run again, it goes on where it stopped.
    """
    folder = Path(path)
    settings = StoreSettings(dataset.kind, dataset.grid, dataset.spacing, dataset.sigma)
    progress = begin_store(folder, settings, len(dataset))
    todo = [number for number, row_id in enumerate(dataset.ids) if row_id not in progress.rows]
    batches = list(_batches(dataset, np.array(todo, dtype=np.int64), progress.part_rows))
    reopen_store(folder)
    for part, batch in zip(progress.next_parts(len(batches)), batches, strict=True):
        densities = dataset.read(batch)
        rows = [
            _row(dataset, number, density) for number, density in zip(batch, densities, strict=True)
        ]
        write_part(folder, part, rows)
    finish_store(folder, dataset.targets, dataset.name)


def _batches(
    dataset: Dataset, rows: NDArray[np.int64], part_rows: int
) -> Iterator[NDArray[np.int64]]:
    """Yield these rows, in their order, as parts that a process can hold."""
    bytes_per_point = dataset.n_channels * np.dtype(np.float16).itemsize
    n_bytes = dataset.shapes.prod(axis=1) * bytes_per_point
    start = 0
    while start < len(rows):
        candidates = rows[start : start + part_rows]
        fitting = int((n_bytes[candidates].cumsum() <= LARGEST_PART_BYTES).sum())
        batch = candidates[: max(1, fitting)]
        yield batch
        start += len(batch)


def _row(dataset: Dataset, number: int, density: NDArray[np.float16]) -> Row:
    return Row(
        id=dataset.ids[number],
        formula=dataset.formulas[number],
        chemical_system=dataset.chemical_systems[number],
        species=dataset.species[number],
        lattice=dataset.lattices[number],
        frac_coords=dataset.frac_coords[number],
        density=density,
    )
