"""Writing a store part by part: by many processes, killed at any moment, gone on with later.

- A part is one array of densities and one JSON record, which is written last: a part without its record is not there.
  Parts share no file, so processes, and machines, need no lock. Of N machines each numbers its parts
  k, k + N, k + 2 N, ...: folders filled apart can be copied into one.
- Which rows are done, and which were refused and why, is read from the records; a later record wins, so a row refused
  once and accepted later is in.
- ``finish_store`` joins the parts with a property table. It reads no density, so another table can follow later.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from taskgroup import files
from taskgroup.datasets.density_rows import digest_density
from taskgroup.datasets.store.manifest import (
    CHUNK_POINTS,
    DENSITY,
    FORMAT,
    MANIFEST,
    PARTS,
    Manifest,
    disk_errors,
    read_manifest,
    write_manifest,
)
from taskgroup.errors import StoreError

# Densities; small cells of one channel take 2 MB.
LARGEST_PART = 128
# What one process holds while it makes a part: fewer densities of large cells.
LARGEST_PART_BYTES = 64 << 20
# A small store still has parts enough for a few processes.
_FEWEST_PARTS = 16


@dataclass(frozen=True)
class StoreSettings:
    """Settings that all densities of a store share.

    Their kind, either the points of the ``grid`` per axis or their ``spacing`` in Å, and the smoothing width in Å.
    """

    kind: str
    grid: int | None
    spacing: float | None
    sigma: float


@dataclass(frozen=True, eq=False)
class Row:
    """One crystal on its way into a store: ``density`` is float16 [C, n1, n2, n3], e/Å^3; the rest as in a Dataset.

    ``cells``: primitive cells in the cell that its labels per cell belong to.
    """

    id: str
    formula: str
    chemical_system: str
    species: tuple[str, ...]
    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    density: NDArray[np.float16]
    cells: int = 1


@dataclass(frozen=True)
class Refused:
    """A row that did not get in: where it came from, and the rule it broke."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Progress:
    """Progress of a store: part numbers of the rows by id, what was turned away, and notes on rows that are in.

    ``cells``: see ``Row``, by id where there are several.
    """

    rows: dict[str, int]
    refused: dict[str, Refused]
    part_rows: int
    last_part: int
    notes: dict[str, str] = field(default_factory=dict)
    cells: dict[str, int] = field(default_factory=dict)

    def next_parts(self, n: int, share: tuple[int, int] = (1, 1)) -> range:
        """Return the next ``n`` free part numbers of machine ``share[0]`` of ``share[1]``."""
        machine, machines = share
        first = self.last_part + 1
        first += (machine - 1 - first) % machines
        return range(first, first + n * machines, machines)


def begin_store(path: Path, settings: StoreSettings, n_rows: int) -> Progress:
    """Begin a store of about ``n_rows``, or go on with one, and return how far it is.

    Raises StoreError: the folder holds something else, or a store begun with other settings.
    """
    if not (path / MANIFEST).exists():
        if path.exists() and any(path.iterdir()):
            raise StoreError(f"{path}: exists and is no store; choose another folder")
        part_rows = min(LARGEST_PART, max(1, math.ceil(n_rows / _FEWEST_PARTS)))
        with disk_errors(path):
            _create(path, settings, part_rows)
    manifest = read_manifest(path)
    for name, wanted in asdict(settings).items():
        begun_with = getattr(manifest, name)
        if begun_with != wanted:
            raise StoreError(
                f"{path}: was begun with {name} {begun_with}, now asked for {wanted}; "
                "choose another folder"
            )
    return read_progress(path)


def _create(path: Path, settings: StoreSettings, part_rows: int) -> None:
    """Make an empty store, there at once and as a whole: of machines that begin it together, the first one's stays."""
    absolute = path.absolute()
    draft = absolute.with_name(f".{absolute.name}-{uuid4().hex[:8]}")
    (draft / PARTS).mkdir(parents=True)
    try:
        _create_group(draft)
        write_manifest(
            draft,
            Manifest(
                format=FORMAT,
                complete=False,
                kind=settings.kind,
                grid=settings.grid,
                spacing=settings.spacing,
                sigma=settings.sigma,
                part_rows=part_rows,
            ),
        )
        draft.rename(path)
    except OSError:
        shutil.rmtree(draft)
        # another machine was faster, which is fine
        if not (path / MANIFEST).exists():
            raise


def _create_group(folder: Path) -> None:
    import zarr

    zarr.open_group(folder, mode="w-").create_group(DENSITY)


def read_progress(path: Path) -> Progress:
    """Read the records of the parts; one of them is in memory at a time."""
    rows: dict[str, int] = {}
    refused: dict[str, Refused] = {}
    notes: dict[str, str] = {}
    cells: dict[str, int] = {}
    last_part = -1
    for record in sorted((path / PARTS).glob("*.json")):
        try:
            part = json.loads(record.read_text(encoding="utf-8"))
            last_part = int(record.stem)
            for row in part["rows"]:
                rows[row["id"]] = last_part
                cells[row["id"]] = int(row.get("cells", 1))
            for entry in part["refused"]:
                refused[entry["id"]] = Refused(**entry)
            notes |= part.get("notes", {})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged, {record.name} is no part ({error!r:.100})"
            ) from None
    still_refused = {row_id: entry for row_id, entry in refused.items() if row_id not in rows}
    return Progress(rows, still_refused, read_manifest(path).part_rows, last_part, notes, cells)


def reopen_store(path: Path) -> None:
    """Mark a store as under way."""
    with disk_errors(path):
        write_manifest(path, replace(read_manifest(path), complete=False))


def write_part(
    path: Path,
    part: int,
    rows: Sequence[Row],
    refused: Sequence[Refused] = (),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write part number ``part`` of a store. Raises StoreError: the disk is full, or the store is an old one."""
    check_format(path)
    starts, values = _joined_values([row.density for row in rows])
    record = {
        "chunks": len(values) // CHUNK_POINTS,
        "rows": [_row_record(row, start) for row, start in zip(rows, starts, strict=True)],
        "refused": [asdict(entry) for entry in refused],
        "notes": dict(notes),
    }
    with disk_errors(path):
        if rows:
            _write_array(path / DENSITY / f"{part:06d}", values)
        files.write_json(path / PARTS / f"{part:06d}.json", record)


def check_format(path: Path) -> None:
    """Refuse to add to a store of an earlier form. Raises StoreError."""
    version = read_manifest(path).format
    if version != FORMAT:
        raise StoreError(
            f"{path}: was begun by an earlier version (store format {version}, this one writes {FORMAT}); "
            "choose another folder"
        )


def _joined_values(
    densities: Sequence[NDArray[np.float16]],
) -> tuple[list[int], NDArray[np.float16]]:
    """Return the number of the first chunk of each density, and the values of all, each channel from a new chunk on."""
    starts = []
    n_chunks = 0
    for density in densities:
        starts.append(n_chunks)
        n_chunks += len(_stored_channels(density)) * _chunks_per_channel(density)
    values = np.zeros((n_chunks, CHUNK_POINTS), dtype=np.float16)
    for start, density in zip(starts, densities, strict=True):
        place = start
        step = _chunks_per_channel(density)
        for channel in _stored_channels(density):
            values[place : place + step].reshape(-1)[: channel.size] = channel.reshape(-1)
            place += step
    return starts, values.reshape(-1)


def _stored_channels(density: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the density without a magnetisation of zeros."""
    return density if density[1:].any() else density[:1]


def _chunks_per_channel(density: NDArray[np.float16]) -> int:
    return math.ceil(density[0].size / CHUNK_POINTS)


def _write_array(path: Path, values: NDArray[np.float16]) -> None:
    """Write the array of a part, in place of what a process that was killed may have left there."""
    import zarr
    from zarr.codecs import BloscCodec

    array = zarr.create_array(
        path,
        shape=values.shape,
        chunks=(CHUNK_POINTS,),
        shards=values.shape,
        dtype="float16",
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        overwrite=True,
    )
    array[:] = values


def _row_record(row: Row, first_chunk: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "first_chunk": first_chunk,
        "shape": list(row.density.shape[1:]),
        "stored_channels": len(_stored_channels(row.density)),
        "formula": row.formula,
        "chemical_system": row.chemical_system,
        "species": list(row.species),
        "lattice": np.ravel(row.lattice).tolist(),
        "frac_coords": np.ravel(row.frac_coords).tolist(),
        "n_channels": len(row.density),
        "digest": digest_density(row.density),
        "cells": row.cells,
    }
