"""The manifest of a store: its settings, and the mark that it is complete.

A store may come from a stranger, so each field is checked before anything is made of its size.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup import files
from taskgroup.datasets.target import Target
from taskgroup.densities.density import KINDS
from taskgroup.errors import MissingDependency, StoreError, TargetError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FORMAT = 2
"""Form of the stores that are written; see the package's docstring for the earlier one."""
# Points of a chunk: the smallest densities have one, and it decodes in some microseconds.
CHUNK_POINTS = 4096
MANIFEST, ROWS, DENSITY, PARTS = "manifest.json", "rows.parquet", "density", "parts"

# A density of more points does not fit a network, and one of 1024^3 takes 2 GB.
_LARGEST_GRID = 512
_LARGEST_PART_ROWS = 1 << 16
_LARGEST_SIGMA = 100.0
_LARGEST_SPACING = 10.0
# Targets of 20,000 columns take 3 MB.
_LARGEST_MANIFEST = 64 << 20


@dataclass(frozen=True)
class Manifest:
    """Content of ``manifest.json``; the last five fields stand in a complete store only."""

    format: int
    complete: bool
    kind: str
    grid: int | None
    spacing: float | None
    sigma: float
    part_rows: int
    name: str = ""
    targets: tuple[Target, ...] = ()
    n_rows: int = 0
    n_channels: int = 1
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        fields = asdict(self)
        fields["targets"] = [target.to_dict() for target in self.targets]
        # The file names one of the two.
        del fields["spacing" if self.spacing is None else "grid"]
        if not self.hash:
            for name in ("name", "targets", "n_rows", "n_channels", "hash"):
                del fields[name]
        return fields


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of a store, complete or not. Raises StoreError: there is none that can be read."""
    file_system, root = file_system_of(path)
    try:
        n_bytes = file_system.size(f"{root}/{MANIFEST}") or 0
        if n_bytes > _LARGEST_MANIFEST:
            raise StoreError(f"{path}: damaged, {MANIFEST} has {n_bytes} bytes")
        fields = json.loads(file_system.cat_file(f"{root}/{MANIFEST}"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no store, it has no {MANIFEST}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    except StoreError:
        raise
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged, {MANIFEST} is not JSON ({error})") from None
    try:
        return _parse(fields)
    except (TargetError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, StoreError):
            raise StoreError(f"{path}: {error}") from None
        reason = str(error)[:200]
        raise StoreError(f"{path}: damaged, {MANIFEST} does not hold ({reason})") from None


def _parse(fields: Any) -> Manifest:
    if not isinstance(fields, dict):
        raise TypeError("it must be an object")
    version = fields.get("format", 0)
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"store format {version}, this version reads up to {FORMAT}: upgrade taskgroup"
        )
    complete = fields["complete"]
    if not isinstance(complete, bool):
        raise TypeError(f"complete must be true or false, found {complete!r:.50}")
    if fields["kind"] not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, found {fields['kind']!r:.50}")
    grid, spacing = None, None
    if "spacing" in fields:
        spacing = _length(fields, "spacing", _LARGEST_SPACING)
        if spacing == 0:
            raise ValueError("spacing must be above 0 Å")
    else:
        grid = _whole(fields, "grid", 2, _LARGEST_GRID)
    manifest = Manifest(
        format=_whole(fields, "format", 0, FORMAT),
        complete=complete,
        kind=fields["kind"],
        grid=grid,
        spacing=spacing,
        sigma=_length(fields, "sigma", _LARGEST_SIGMA),
        part_rows=_whole(fields, "part_rows", 1, _LARGEST_PART_ROWS),
    )
    if not manifest.complete:
        return manifest
    return replace(
        manifest,
        name=_text(fields, "name"),
        targets=tuple(Target(**target) for target in fields["targets"]),
        n_rows=_whole(fields, "n_rows", 1, 1 << 40),
        n_channels=_whole(fields, "n_channels", 1, 2),
        hash=_text(fields, "hash"),
    )


def _whole(fields: dict[str, Any], name: str, least: int, most: int) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(
            f"{name} must be a whole number from {least} to {most}, found {value!r:.50}"
        )
    return value


def _length(fields: dict[str, Any], name: str, most: float) -> float:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a length in Å, found {value!r:.50}")
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be in 0..{most:g} Å, found {value!r:.50}")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, found {value!r:.50}")
    return value


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of a store whole or not at all."""
    files.write_json(path / MANIFEST, manifest.to_dict())


def is_url(path: str | Path) -> bool:
    """Tell if a place is one for fsspec, such as ``s3://bucket/store``, rather than a folder."""
    return isinstance(path, str) and "://" in path


def file_system_of(path: str | Path) -> "tuple[AbstractFileSystem, str]":
    """Return the file system that holds a store, and the store's place there."""
    from fsspec.core import url_to_fs

    if not is_url(path):
        path = os.path.abspath(path)
    try:
        file_system, root = url_to_fs(path)
    except ImportError as error:
        raise MissingDependency(f"{path}: {error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from error
    return file_system, root.rstrip("/")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error of the store."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"{path}: cannot be written ({reason}); what is done is kept, run again to go on"
        ) from error
