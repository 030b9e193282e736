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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from taskgroup import files
from taskgroup.datasets.dataset import digest_density
from taskgroup.datasets.store.manifest import (
    DENSITY,
    FORMAT,
    MANIFEST,
    PARTS,
    Manifest,
    disk_errors,
    read_manifest,
    write_manifest,
)
from taskgroup.datasets.store.shards import CHANNELS
from taskgroup.errors import StoreError

if TYPE_CHECKING:
    import zarr

# densities; 8 MB at 32^3, what one process holds while it writes
LARGEST_PART = 128
# A small store still has parts enough for a few processes.
_FEWEST_PARTS = 16


@dataclass(frozen=True)
class StoreSettings:
    """Settings that all densities of a store share: their kind, grid points per axis, and smoothing width in Å."""

    kind: str
    grid: int
    sigma: float


@dataclass(frozen=True, eq=False)
class Row:
    """One crystal on its way into a store: ``density`` is float16 [C, n, n, n], e/Å^3; the rest as in a Dataset.

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
        _create_array(draft, settings.grid, part_rows)
        write_manifest(
            draft,
            Manifest(
                format=FORMAT,
                complete=False,
                kind=settings.kind,
                grid=settings.grid,
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


def _create_array(folder: Path, grid: int, part_rows: int) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    density_shape = (grid, grid, grid)
    # Always two channels: a spin-paired crystal leaves the second all zero, which takes no space.
    zarr.open_group(folder, mode="w-").create_array(
        DENSITY,
        shape=(0, CHANNELS, *density_shape),
        chunks=(1, 1, *density_shape),
        shards=(part_rows, CHANNELS, *density_shape),
        dtype="float16",
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    )


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
    """Write part number ``part`` of a store. Raises StoreError: the disk does not take it."""
    array = _array_with_room(path, part)
    first = part * array.shards[0]
    block = np.zeros((len(rows), *array.shape[1:]), dtype=np.float16)
    for number, row in enumerate(rows):
        n_channels = len(row.density)
        block[number, :n_channels] = row.density
    record = {
        "rows": [_row_record(row, first + number) for number, row in enumerate(rows)],
        "refused": [asdict(entry) for entry in refused],
        "notes": dict(notes),
    }
    with disk_errors(path):
        if rows:
            array[first : first + len(rows)] = block
        files.write_json(path / PARTS / f"{part:06d}.json", record)


def open_array(path: Path) -> "zarr.Array":
    """Open the density array to write. Raises StoreError: it is not one that we made."""
    import zarr

    manifest = read_manifest(path)
    grid = (manifest.grid,) * 3
    try:
        array = zarr.open_group(path, mode="r+")[DENSITY]
        is_ours = (
            array.dtype == np.float16
            and array.shape[1:] == (CHANNELS, *grid)
            and array.chunks == (1, 1, *grid)
            and array.shards == (manifest.part_rows, CHANNELS, *grid)
        )
    # zarr raises what its parsers meet, of many kinds
    except Exception as error:  # noqa: BLE001
        raise StoreError(f"{path}: damaged, no density array ({error!r:.200})") from None
    if not is_ours:
        raise StoreError(f"{path}: damaged, its density array is not the one of its manifest")
    return array


def _array_with_room(path: Path, part: int) -> "zarr.Array":
    """Return the density array, long enough for a part: in this process only, as all share the file of its shape."""
    import zarr

    array = open_array(path)
    shape = (length_with_part(array, part), *array.shape[1:])
    metadata = array.metadata.to_dict() | {"shape": shape}
    return zarr.Array.from_dict(array.store_path, metadata)


def length_with_part(array: "zarr.Array", last_part: int) -> int:
    """Return the length that the density array needs to hold part ``last_part``."""
    return max(array.shape[0], (last_part + 1) * array.shards[0])


def _row_record(row: Row, position: int) -> dict[str, Any]:
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
        "cells": row.cells,
    }
