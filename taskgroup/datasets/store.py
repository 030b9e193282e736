"""Stores: datasets on disk, of any size. This module reads them; ``parts`` writes them.

    STORE/
      manifest.json      format, kind, grid, sigma, targets, hash, and ``complete``, which is written last
      density/           zarr v3: float16 [positions, 2, n, n, n], e/Å^3; one density a chunk, up to 128 a shard
      parts/000000.json  the rows of one shard, and what was refused
      rows.parquet       one line a row: id, position, formula, chemical system, structure, digest, ``target.*`` columns

Why zarr: 100,000 densities at 32^3 are 6.6 GB, read in random order while training. A single npz must be held whole; a
file a crystal makes 100,000 files; HDF5 knows one writer. zarr v3 shards give one file for many crystals, reads of
single ones, writers that share nothing, and compression (byte shuffle + zstd: a quarter of the size on symmetric
crystals, 4 ms to read one). Labels and structures are columns, so they are Parquet, which any data-frame tool opens.

Local folders only: the completion marker needs an atomic rename.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.target import Target, TargetTable
from taskgroup.errors import StoreError

FORMAT = 1
MANIFEST, ROWS, DENSITY = "manifest.json", "rows.parquet", "density"


def open_store(path: str | Path) -> Dataset:
    """The dataset of a complete store; densities are read when asked for, and only those.

    Raises StoreError where there is no store, or it is half written, of a newer format, or not what its hash says.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if not manifest["complete"]:
        done = len(list((folder / "parts").glob("*.json")))
        raise StoreError(f"{folder}: half written ({done} parts so far); run the command that began it again to go on")
    dataset = read_rows(folder, manifest)
    if dataset.hash != manifest["hash"]:
        raise StoreError(f"{folder}: damaged, its rows have hash {dataset.hash[:12]}, not {manifest['hash'][:12]}")
    return dataset


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a store, complete or not. Raises StoreError where there is none that can be read."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError:
        raise StoreError(f"{path}: no store, it has no {MANIFEST}") from None
    except ValueError as error:
        raise StoreError(f"{path}: damaged, {MANIFEST} is not JSON ({error})") from None
    if manifest.get("format", 0) > FORMAT:
        raise StoreError(
            f"{path}: store format {manifest['format']}, this version reads up to {FORMAT}: upgrade taskgroup"
        )
    return manifest


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole or not at all."""
    partial_file = path.with_name(f"{path.name}.partial")
    partial_file.write_text(json.dumps(data))
    os.replace(partial_file, path)


def read_rows(path: Path, manifest: dict[str, Any]) -> Dataset:
    """The dataset of ``rows.parquet``, its hash not yet compared with the manifest's."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    try:
        columns = pq.read_table(path / ROWS)
        array = zarr.open_group(path, mode="r")[DENSITY]
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path}: damaged, {error}") from error
    specs = tuple(Target(**fields) for fields in manifest["targets"])
    values = [columns[f"target.{spec.name}"].to_numpy() for spec in specs]
    ids = tuple(columns["id"].to_pylist())
    return Dataset(
        name=manifest["name"],
        version=f"store format {manifest['format']}",
        targets=TargetTable(specs, ids, np.stack(values, axis=1)),
        lattices=np.array(columns["lattice"].to_pylist()).reshape(-1, 3, 3),
        formulas=tuple(columns["formula"].to_pylist()),
        chemical_systems=tuple(columns["chemical_system"].to_pylist()),
        species=tuple(map(tuple, columns["species"].to_pylist())),
        frac_coords=tuple(np.array(c).reshape(-1, 3) for c in columns["frac_coords"].to_pylist()),
        n_channels=manifest["n_channels"],
        grid=manifest["grid"],
        sigma=manifest["sigma"],
        kind=manifest["kind"],
        read=partial(_read, array, columns["position"].to_numpy(), manifest["n_channels"]),
        density_digests=tuple(columns["digest"].to_pylist()),
    )


def _read(array: Any, positions: NDArray[np.int64], n_channels: int, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    try:
        densities = array.get_orthogonal_selection((positions[rows], slice(0, n_channels)))
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{array.store_path}: damaged, a density cannot be read ({error})") from error
    empty = ~densities[:, 0].any(axis=(1, 2, 3))  # zarr reads a lost shard as zeros
    if empty.any():
        raise StoreError(f"{array.store_path}: damaged, no density at position {positions[rows][empty][0]}")
    return densities


def verify_store(path: str | Path) -> None:
    """Read every density and compare it with its digest. Raises StoreError naming the first row that differs."""
    dataset = open_store(path)
    for row, found, expected in zip(dataset.ids, dataset.digest_densities(), dataset.density_digests, strict=True):
        if found != expected:
            raise StoreError(f"{path}: damaged, the density of row '{row}' is not the one that was stored")
