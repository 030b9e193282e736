"""Stores: datasets on disk, of any size.

    STORE/
      manifest.json      format, kind, grid or spacing, sigma, targets, hash, and ``complete``, which is written last
      density/000000     zarr v3: the densities of a part one after the other, float16, e/Å^3, up to 128 rows or 64 MB
      parts/000000.json  the rows of one part, and what was refused
      rows.parquet       a line per row: id, place, shape, formula, chemical system, structure, digest, ``target.*``

A density [C, n1, n2, n3] begins with a new chunk of 4096 points of its part's array, at ``first_chunk``, and so does
its second channel; a magnetisation of zeros is left out (``stored_channels``). With zarr:

    points = zarr.open_group(store)["density/000000"][first_chunk * 4096 :][: n1 * n2 * n3].reshape(n1, n2, n3)

Stores of format 1 (until version 0.2) have one array [positions, 2, n, n, n]; they are read, and take other labels, but
no further rows.

Why zarr: 100,000 densities are gigabytes, read in random order while training. A single npz must be held whole; a file
per crystal makes 100,000 files; HDF5 knows one writer. zarr v3 shards give one file for many crystals, reads of single
ones, writers that share nothing, and compression (byte shuffle + zstd: a quarter of the size on symmetric crystals).
Grids of any shape lie in one array because zarr's chunks all have one size. Labels and structures are columns, so they
are Parquet, which any data-frame tool opens.

A store is written in a folder, which may be on a file system that many machines share; the completion marker needs an
atomic rename. A complete one is also read from wherever fsspec reaches: ``s3://``, ``gs://``, ``https://``, ...
"""

from taskgroup.datasets.store.finish import finish_store, write_store
from taskgroup.datasets.store.manifest import Manifest, is_url, read_manifest
from taskgroup.datasets.store.reading import open_store, verify_store
from taskgroup.datasets.store.writing import (
    LARGEST_PART_BYTES,
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
    "LARGEST_PART_BYTES",
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
