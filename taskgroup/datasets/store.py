"""Stores: datasets on disk, of any size. This module reads them; ``parts`` writes them.

    STORE/
      manifest.json      format, kind, grid, sigma, targets, hash, and ``complete``, which is written last
      density/           zarr v3: float16 [positions, 2, n, n, n], e/Å^3; a channel a chunk, up to 128 rows a shard
      parts/000000.json  the rows of one shard, and what was refused
      rows.parquet       one line a row: id, position, formula, chemical system, structure, digest, ``target.*`` columns

Why zarr: 100,000 densities at 32^3 are 6.6 GB, read in random order while training. A single npz must be held whole; a
file a crystal makes 100,000 files; HDF5 knows one writer. zarr v3 shards give one file for many crystals, reads of
single ones, writers that share nothing, and compression (byte shuffle + zstd: a quarter of the size on symmetric
crystals). Labels and structures are columns, so they are Parquet, which any data-frame tool opens.

A store is written in a folder, which may be on a file system that many machines share; the completion marker needs an
atomic rename. A complete one is also read from wherever fsspec reaches: ``s3://``, ``gs://``, ``https://``, ...
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.shards import Shards
from taskgroup.datasets.target import Target, TargetTable
from taskgroup.errors import MissingDependency, StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from fsspec import AbstractFileSystem

FORMAT = 1
MANIFEST, ROWS, DENSITY = "manifest.json", "rows.parquet", "density"


def open_store(path: str | Path) -> Dataset:
    """The dataset of a complete store, a folder or an fsspec URL; densities are read when asked for, and only those.

    Raises StoreError where there is no store, or it is half written, of a newer format, or not what its hash says.
    """
    manifest = read_manifest(path)
    if not manifest["complete"]:
        done = len(list(Path(path, "parts").glob("*.json")))
        raise StoreError(
            f"{path}: half written ({done} parts so far); run the command that began it again to go on"
        )
    dataset = read_rows(path, manifest)
    if dataset.hash != manifest["hash"]:
        raise StoreError(
            f"{path}: damaged, its rows have hash {dataset.hash[:12]}, not {manifest['hash'][:12]}"
        )
    return dataset


def is_url(path: str | Path) -> bool:
    """Whether a place is one for fsspec, such as ``s3://bucket/store``, rather than a folder."""
    return isinstance(path, str) and "://" in path


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a store, complete or not. Raises StoreError where there is none that can be read."""
    files, root = _file_system(path)
    try:
        manifest = json.loads(files.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no store, it has no {MANIFEST}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise StoreError(f"{path}: damaged, {MANIFEST} is not JSON ({error})") from None
    if manifest.get("format", 0) > FORMAT:
        raise StoreError(
            f"{path}: store format {manifest['format']}, this version reads up to {FORMAT}: upgrade taskgroup"
        )
    return manifest


def _file_system(path: str | Path) -> "tuple[AbstractFileSystem, str]":
    """Where the files of a store are, and its place there."""
    from fsspec.core import url_to_fs

    if not is_url(path):
        path = os.path.abspath(path)
    try:
        files, root = url_to_fs(path)
    except ImportError as error:
        raise MissingDependency(f"{path}: {error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from error
    return files, root.rstrip("/")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file so that it is at ``path`` whole or not at all, whoever else writes it."""
    partial_file = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial_file
        os.replace(partial_file, path)
    finally:
        partial_file.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole or not at all."""
    with whole(path) as partial_file:
        partial_file.write_text(json.dumps(data))


def read_rows(path: str | Path, manifest: dict[str, Any]) -> Dataset:
    """The dataset of ``rows.parquet``, its hash not yet compared with the manifest's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files, root = _file_system(path)
    try:
        with files.open(f"{root}/{ROWS}") as file:
            # Arrow's threads, where any were started, abort a process that ends soon after
            columns = pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path}: damaged, {error}") from error
    specs = tuple(Target(**fields) for fields in manifest["targets"])
    values = [columns[f"target.{spec.name}"].to_numpy() for spec in specs]
    ids = tuple(columns["id"].to_pylist())
    shards = Shards(files, f"{root}/{DENSITY}", manifest["part_rows"], manifest["grid"])
    return Dataset(
        name=manifest["name"],
        version=f"store format {manifest['format']}",
        targets=TargetTable(specs, ids, np.stack(values, axis=1)),
        lattices=columns["lattice"].combine_chunks().flatten().to_numpy().reshape(-1, 3, 3),
        formulas=tuple(columns["formula"].to_pylist()),
        chemical_systems=tuple(columns["chemical_system"].to_pylist()),
        species=Cells(columns["species"], tuple),
        frac_coords=Cells(columns["frac_coords"], _as_places),
        n_channels=manifest["n_channels"],
        grid=manifest["grid"],
        sigma=manifest["sigma"],
        kind=manifest["kind"],
        read=partial(_read, shards, columns["position"].to_numpy(), manifest["n_channels"]),
        density_digests=tuple(columns["digest"].to_pylist()),
    )


class Cells(Sequence):
    """A column whose cells become Python objects when looked at: 100,000 crystals have a million coordinates."""

    def __init__(self, column: "pa.ChunkedArray", convert: Callable[[list], Any]) -> None:
        self._column, self._convert = column, convert

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> Any:
        return self._convert(self._column[int(row)].as_py())


def _as_places(numbers: list[float]) -> NDArray[np.float64]:
    return np.array(numbers).reshape(-1, 3)


def _read(
    shards: Shards, positions: NDArray[np.int64], n_channels: int, rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    return shards.read(positions[rows], n_channels)


def verify_store(path: str | Path) -> None:
    """Read every density and compare it with its digest. Raises StoreError naming the first row that differs."""
    dataset = open_store(path)
    for row, found, expected in zip(
        dataset.ids, dataset.digest_densities(), dataset.density_digests, strict=True
    ):
        if found != expected:
            raise StoreError(
                f"{path}: damaged, the density of row '{row}' is not the one that was stored"
            )
