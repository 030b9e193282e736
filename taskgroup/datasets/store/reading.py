"""Reading of a complete store: labels and structures at once, densities when they are asked for."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.datasets.dataset import Dataset, as_frac_coords
from taskgroup.datasets.store.manifest import (
    CHUNK_POINTS,
    DENSITY,
    FORMAT,
    PARTS,
    ROWS,
    Manifest,
    file_system_of,
    read_manifest,
)
from taskgroup.datasets.store.shards import Layout, Shards
from taskgroup.datasets.target import TargetTable
from taskgroup.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# Run-length encoding may turn a few bytes into a thousand million values. Real stores hold about half a value per byte
# (ids, digests and coordinates hardly compress), and small files may repeat themselves.
_MOST_VALUES_PER_BYTE = 8
_VALUES_ALWAYS_TAKEN = 2_000_000


def open_store(path: str | Path) -> Dataset:
    """Open a complete store, a folder or an fsspec URL; densities are read when asked for, and only those.

    Raises StoreError: there is no store, or it is half written, of a newer format, or not what its hash says.
    """
    manifest = read_manifest(path)
    if not manifest.complete:
        n_parts = len(list(Path(path, PARTS).glob("*.json")))
        raise StoreError(
            f"{path}: half written ({n_parts} parts so far); "
            "run the command that began it again to go on"
        )
    dataset = read_rows(path, manifest)
    if dataset.hash != manifest.hash:
        raise StoreError(
            f"{path}: damaged, its rows have hash {dataset.hash[:12]}, not {manifest.hash[:12]}"
        )
    return dataset


def read_rows(path: str | Path, manifest: Manifest) -> Dataset:
    """Read the dataset of ``rows.parquet``; its hash is not yet compared with the manifest's."""
    import pyarrow as pa

    file_system, root = file_system_of(path)
    try:
        columns = _read_columns(file_system, f"{root}/{ROWS}")
        return _make_dataset(
            columns,
            manifest,
            Shards(file_system, f"{root}/{DENSITY}", _layout(columns, manifest)),
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(f"{path}: damaged, {reason}") from error


def _read_columns(file_system: Any, place: str) -> "pa.Table":
    import pyarrow.parquet as pq

    with file_system.open(place) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        _check_size(parquet, file_system.size(place))
        # Arrow's threads, where any were started, abort a process that ends soon after
        return parquet.read(use_threads=False)


def _check_size(parquet: "pq.ParquetFile", n_bytes: int) -> None:
    """Refuse a file that unpacks to far more values than its bytes can tell apart."""
    metadata = parquet.metadata
    n_values = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        n_values += sum(row_group.column(i).num_values for i in range(row_group.num_columns))
    if n_values > _VALUES_ALWAYS_TAKEN + _MOST_VALUES_PER_BYTE * n_bytes:
        raise ValueError(f"{ROWS} unpacks to {n_values} values out of {n_bytes} bytes")


def _make_dataset(columns: "pa.Table", manifest: Manifest, shards: Shards) -> Dataset:
    specs = manifest.targets
    labels = [columns[f"target.{spec.name}"].to_numpy() for spec in specs]
    ids = tuple(columns["id"].to_pylist())
    lattices = columns["lattice"].combine_chunks().flatten().to_numpy()
    return Dataset(
        name=manifest.name,
        version=f"store format {manifest.format}",
        targets=TargetTable(specs, ids, np.stack(labels, axis=1)),
        lattices=lattices.reshape(-1, 3, 3),
        formulas=tuple(columns["formula"].to_pylist()),
        chemical_systems=tuple(columns["chemical_system"].to_pylist()),
        species=LazyCells(columns["species"], tuple),
        frac_coords=LazyCells(columns["frac_coords"], as_frac_coords),
        n_channels=manifest.n_channels,
        shapes=shards.shapes,
        grid=manifest.grid,
        spacing=manifest.spacing,
        sigma=manifest.sigma,
        kind=manifest.kind,
        read=partial(shards.read, n_channels=manifest.n_channels),
        density_digests=tuple(columns["digest"].to_pylist()),
    )


def _layout(columns: "pa.Table", manifest: Manifest) -> Layout:
    """Return where the densities lie, in a store of this form or of the first."""
    if manifest.format < FORMAT:
        return _layout_of_format_1(columns, manifest)
    shapes = columns["shape"].combine_chunks().flatten().to_numpy()
    return Layout(
        path_of_part=lambda part: f"{part:06d}/c/0",
        parts=columns["part"].to_numpy(),
        first_chunks=columns["first_chunk"].to_numpy(),
        chunks_in_shard=columns["chunks_in_part"].to_numpy(),
        shapes=shapes.reshape(-1, 3),
        chunk_points=CHUNK_POINTS,
        channel_counts=columns["stored_channels"].to_numpy(),
    )


def _layout_of_format_1(columns: "pa.Table", manifest: Manifest) -> Layout:
    """Return where the densities lie in one array [positions, 2, n, n, n] with a chunk per channel."""
    parts, places = np.divmod(columns["position"].to_numpy(), manifest.part_rows)
    n_rows = len(parts)
    return Layout(
        path_of_part=lambda part: f"c/{part}/0/0/0/0",
        parts=parts,
        first_chunks=2 * places,
        chunks_in_shard=np.full(n_rows, 2 * manifest.part_rows),
        shapes=np.full((n_rows, 3), manifest.grid),
        chunk_points=manifest.grid**3,
        channel_counts=np.full(n_rows, 2),
    )


class LazyCells(Sequence):
    """A column whose cells become Python objects when they are read: 100,000 crystals have a million coordinates."""

    def __init__(self, column: "pa.ChunkedArray", convert: Callable[[list], Any]) -> None:
        self._column = column
        self._convert = convert

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: int) -> Any:
        return self._convert(self._column[int(row)].as_py())


def verify_store(path: str | Path) -> None:
    """Read every density and compare it with its digest. Raises StoreError, naming the first row that differs."""
    dataset = open_store(path)
    actual = dataset.digest_densities()
    for row_id, digest, expected in zip(dataset.ids, actual, dataset.density_digests, strict=True):
        if digest != expected:
            raise StoreError(
                f"{path}: damaged, the density of row '{row_id}' is not the one that was stored"
            )
