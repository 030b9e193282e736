"""Stores: datasets on disk, of any size.

    STORE/
      manifest.json      format, kind, grid, sigma, targets, hash, and ``complete``, which is written last
      density/           zarr v3: float16 [positions, 2, n, n, n], e/Å^3; a channel per chunk, up to 128 rows per shard
      parts/000000.json  the rows of one shard, and what was refused
      rows.parquet       a line per row: id, position, formula, chemical system, structure, digest, ``target.*`` columns

Why zarr: 100,000 densities at 32^3 are 6.6 GB, read in random order while training. A single npz must be held whole; a
file per crystal makes 100,000 files; HDF5 knows one writer. zarr v3 shards give one file for many crystals, reads of
single ones, writers that share nothing, and compression (byte shuffle + zstd: a quarter of the size on symmetric
crystals). Labels and structures are columns, so they are Parquet, which any data-frame tool opens.

A store is written in a folder, which may be on a file system that many machines share; the completion marker needs an
atomic rename. A complete one is also read from wherever fsspec reaches: ``s3://``, ``gs://``, ``https://``, ...
"""

from taskgroup.datasets.store.finish import finish_store, write_store
from taskgroup.datasets.store.manifest import Manifest, is_url, read_manifest
from taskgroup.datasets.store.reading import open_store, verify_store
from taskgroup.datasets.store.writing import (
    Progress,
    Refused,
    Row,
    StoreSettings,
    begin_store,
    read_progress,
    reopen_store,
    write_part,
)

__all__ = [
    "Manifest",
    "Progress",
    "Refused",
    "Row",
    "StoreSettings",
    "begin_store",
    "finish_store",
    "is_url",
    "open_store",
    "read_manifest",
    "read_progress",
    "reopen_store",
    "verify_store",
    "write_part",
    "write_store",
]
