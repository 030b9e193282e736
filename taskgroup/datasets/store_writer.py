"""Writing a store part by part: by many processes, killed at any moment, gone on with later.

- A part is one shard of the density array and one JSON record, which is written last: a part without its record is not
  there. Parts share no file, so processes, and machines, need no lock. Of N machines each numbers its parts
  k, k + N, k + 2 N, ...: folders filled apart can be copied into one.
- Which rows are done, and which were refused and why, is read from the records; a later record wins, so a row refused
  once and accepted later is in.
- ``finish_store`` joins the parts with a property table. It reads no density, so another table can follow later.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset, digest_density
from taskgroup.datasets.store import (
    DENSITY,
    FORMAT,
    MANIFEST,
    ROWS,
    read_manifest,
    read_rows,
    whole,
    write_json,
)
from taskgroup.datasets.target import TargetTable
from taskgroup.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr

PARTS = "parts"
LARGEST_PART = 128  # densities; 8 MB at 32^3, what one process holds while it writes


@dataclass(frozen=True)
class StoreSettings:
    """What all densities of a store share: their kind, grid points an axis, and smoothing width in Å."""

    kind: str
    grid: int
    sigma: float


@dataclass(frozen=True, eq=False)
class Row:
    """One crystal on its way into a store: ``density`` is float16 [C, n, n, n], e/Å^3; the rest as in a Dataset."""

    id: str
    formula: str
    chemical_system: str
    species: tuple[str, ...]
    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    density: NDArray[np.float16]


@dataclass(frozen=True)
class Refused:
    """A row that did not get in: where it came from, and the rule it broke."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a store is: ``rows`` holds the number of the part of each row by id, ``refused`` what was turned away."""

    rows: dict[str, int]
    refused: dict[str, Refused]
    part_rows: int
    last_part: int

    def next_parts(self, n: int, share: tuple[int, int] = (1, 1)) -> range:
        """The next ``n`` free part numbers of machine ``share[0]`` of ``share[1]``."""
        machine, machines = share
        first = self.last_part + 1
        first += (machine - 1 - first) % machines
        return range(first, first + n * machines, machines)


def begin_store(path: Path, settings: StoreSettings, n_rows: int) -> Progress:
    """Begin a store of about ``n_rows``, or go on with one, and say how far it is.

    Raises StoreError where the folder holds something else, or a store begun with other settings.
    """
    if not (path / MANIFEST).exists():
        if path.exists() and any(path.iterdir()):
            raise StoreError(f"{path}: exists and is no store; choose another folder")
        with _disk(path):
            _create(path, settings, part_rows=min(LARGEST_PART, max(1, math.ceil(n_rows / 16))))
    manifest = read_manifest(path)
    for field, wanted in asdict(settings).items():
        if manifest[field] != wanted:
            raise StoreError(
                f"{path}: was begun with {field} {manifest[field]}, now asked for {wanted}; choose another folder"
            )
    return read_progress(path)


def _create(path: Path, settings: StoreSettings, part_rows: int) -> None:
    """An empty store, there at once and as a whole: of machines that begin it together, the first one's stays."""
    import zarr
    from zarr.codecs import BloscCodec

    n = settings.grid
    place = path.absolute()
    new = place.with_name(f".{place.name}-{uuid4().hex[:8]}")
    (new / PARTS).mkdir(parents=True)
    try:
        # Always two channels: a spin-paired crystal leaves the second all zero, which takes no space.
        zarr.open_group(new, mode="w-").create_array(
            DENSITY,
            shape=(0, 2, n, n, n),
            chunks=(1, 1, n, n, n),
            shards=(part_rows, 2, n, n, n),
            dtype="float16",
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        )
        write_json(
            new / MANIFEST,
            {"format": FORMAT, "complete": False, **asdict(settings), "part_rows": part_rows},
        )
        new.rename(path)
    except OSError:
        shutil.rmtree(new)
        if not (path / MANIFEST).exists():
            raise


def read_progress(path: Path) -> Progress:
    """What the records of the parts say; one of them in memory at a time."""
    rows: dict[str, int] = {}
    refused: dict[str, Refused] = {}
    last = -1
    for record in sorted((path / PARTS).glob("*.json")):
        part, last = json.loads(record.read_text()), int(record.stem)
        rows |= dict.fromkeys((row["id"] for row in part["rows"]), last)
        refused |= {entry["id"]: Refused(**entry) for entry in part["refused"]}
    refused = {name: entry for name, entry in refused.items() if name not in rows}
    return Progress(rows, refused, read_manifest(path)["part_rows"], last)


def reopen_store(path: Path) -> None:
    """Mark a store as under way."""
    with _disk(path):
        write_json(path / MANIFEST, {**read_manifest(path), "complete": False})


def write_part(path: Path, part: int, rows: Sequence[Row], refused: Sequence[Refused] = ()) -> None:
    """Write part number ``part`` of a store. Raises StoreError where the disk does not take it."""
    array = _with_room(path, part)
    first = part * array.shards[0]
    block = np.zeros((len(rows), *array.shape[1:]), dtype=np.float16)
    for held, row in zip(block, rows, strict=True):
        held[: len(row.density)] = row.density
    records = [_record(row, first + i) for i, row in enumerate(rows)]
    with _disk(path):
        if rows:
            array[first : first + len(rows)] = block
        record = {"rows": records, "refused": [asdict(entry) for entry in refused]}
        write_json(path / PARTS / f"{part:06d}.json", record)


def _with_room(path: Path, part: int) -> "zarr.Array":
    """The density array, long enough for a part: in this process only, as the file of its shape is everyone's."""
    import zarr

    array = zarr.open_group(path, mode="r+")[DENSITY]
    metadata = array.metadata.to_dict()
    return zarr.Array.from_dict(
        array.store_path, metadata | {"shape": (_length(array, part), *array.shape[1:])}
    )


def _length(array: "zarr.Array", last_part: int) -> int:
    return max(array.shape[0], (last_part + 1) * array.shards[0])


def _record(row: Row, position: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "position": position,
        "formula": row.formula,
        "chemical_system": row.chemical_system,
        "species": list(row.species),
        "lattice": np.ravel(row.lattice).tolist(),
        "frac_coords": np.ravel(row.frac_coords).tolist(),
        "n_channels": len(row.density),
        "digest": digest_density(row.density),
    }


def finish_store(path: Path, table: TargetTable, name: str) -> None:
    """Join the parts with their labels and mark the store as complete.

    Rows come in the order of ``table``, whatever the order they were written in; rows of either side that the other
    lacks are left out. Raises StoreError where none is left.
    """
    import pyarrow.parquet as pq
    import zarr

    progress = read_progress(path)
    kept = [i for i, row in enumerate(table.ids) if row in progress.rows]
    if not kept:
        raise StoreError(f"{path}: no row has both a density and labels")
    labels = table.rows(kept)
    rows = _records(path, progress, labels.ids)
    for target in labels.names:
        rows = rows.append_column(f"target.{target}", [labels.column(target)])
    manifest = {
        field: read_manifest(path)[field]
        for field in ("format", "kind", "grid", "sigma", "part_rows")
    }
    with _disk(path), whole(path / ROWS) as partial_file:
        reopen_store(path)
        array = zarr.open_group(path, mode="r+")[DENSITY]
        array.resize((_length(array, progress.last_part), *array.shape[1:]))
        pq.write_table(rows, partial_file, row_group_size=len(kept))
    manifest |= {"name": name, "targets": [spec.to_dict() for spec in labels.specs]}
    manifest |= {"n_rows": len(kept), "n_channels": max(rows["n_channels"].to_pylist())}
    with _disk(path):
        write_json(
            path / MANIFEST, {**manifest, "complete": True, "hash": read_rows(path, manifest).hash}
        )


def _records(path: Path, progress: Progress, ids: Sequence[str]) -> "pa.Table":
    """The records of these rows in their order, as columns: a tenth of what they take as Python objects."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    schema = {
        "id": pa.string(),
        "position": pa.int64(),
        "formula": pa.string(),
        "chemical_system": pa.string(),
    }
    schema |= {"species": pa.list_(pa.string()), "lattice": numbers, "frac_coords": numbers}
    schema = pa.schema(schema | {"n_channels": pa.int64(), "digest": pa.string()})
    wanted, tables = set(ids), []
    for part in sorted({progress.rows[row] for row in ids}):
        records = json.loads((path / PARTS / f"{part:06d}.json").read_text())["rows"]
        newest = [
            row for row in records if row["id"] in wanted and progress.rows[row["id"]] == part
        ]
        tables.append(pa.Table.from_pylist(newest, schema))
    table = pa.concat_tables(tables).combine_chunks()
    place = {row: i for i, row in enumerate(table["id"].to_pylist())}
    return table.take([place[row] for row in ids])


def write_store(path: str | Path, dataset: Dataset) -> None:
    """Write any dataset as a store; ``load_dataset(path)`` then has the same hash.

    Written part by part, so a dataset larger than memory passes through; run again, it goes on where it stopped.
    """
    folder = Path(path)
    progress = begin_store(
        folder, StoreSettings(dataset.kind, dataset.grid, dataset.sigma), len(dataset)
    )
    todo = [row for row, name in enumerate(dataset.ids) if name not in progress.rows]
    batches = [todo[at : at + progress.part_rows] for at in range(0, len(todo), progress.part_rows)]
    reopen_store(folder)
    for part, batch in zip(progress.next_parts(len(batches)), batches, strict=True):
        write_part(
            folder,
            part,
            [
                _row(dataset, i, d)
                for i, d in zip(batch, dataset.read(np.array(batch)), strict=True)
            ],
        )
    finish_store(folder, dataset.targets, dataset.name)


def _row(dataset: Dataset, row: int, density: NDArray[np.float16]) -> Row:
    return Row(
        id=dataset.ids[row],
        formula=dataset.formulas[row],
        chemical_system=dataset.chemical_systems[row],
        species=dataset.species[row],
        lattice=dataset.lattices[row],
        frac_coords=dataset.frac_coords[row],
        density=density,
    )


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the disk refuses, said as an error of the store."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"{path}: cannot be written ({reason}); what is done is kept, run again to go on"
        ) from error
