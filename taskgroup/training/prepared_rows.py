"""Prepared rows on disk: what takes minutes for thousands of crystals is done once a machine, not once a process.

Files lie in ``TASKGROUP_CACHE``, by default ``~/.cache/taskgroup``; they may be deleted at any time,
and take at most 2 GiB.
"""

import contextlib
import hashlib
import logging
import os
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_MOST_BYTES = 1 << 29  # of one file: grids of thousands of crystals would fill a disk
_MOST_IN_ALL = 1 << 31  # the files that were used longest ago go first
_CODE = (
    "views/statistics",
    "fields",
    "lattice",
    "neighbours",
    "peak_finding",
    "views/__init__",
)  # modules that decide what is prepared


def cache_folder() -> Path:
    """Where prepared rows are kept."""
    return Path(
        os.environ.get("TASKGROUP_CACHE") or Path.home() / ".cache" / "taskgroup"
    ).expanduser()


def load_prepared(inputs_hash: str, view_key: str, rows: int) -> Tensor | None:
    """The rows of a dataset as a view prepares them, float32; None where they are not kept, or not whole."""
    path = _path(inputs_hash, view_key)
    try:
        found = np.load(
            path, mmap_mode="c", allow_pickle=False
        )  # read as it is used, once for all processes
    except (OSError, ValueError):
        return None
    if len(found) != rows or found.dtype != np.float32:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return torch.from_numpy(found).movedim(-1, 1)


def save_prepared(inputs_hash: str, view_key: str, fields: Tensor) -> None:
    """Keep prepared rows; where that fails (no room, no right) they are prepared again next time."""
    if fields.nbytes > _MOST_BYTES:
        return
    path = _path(inputs_hash, view_key)
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(
                file, fields.movedim(1, -1).cpu().numpy(), allow_pickle=False
            )  # channels last, as prepared
        os.replace(partial, path)
        _make_room(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        _log.info("prepared rows were not kept in %s: %s", path.parent, error)


def _make_room(folder: Path) -> None:
    kept = sorted(folder.glob("prepared-*.npy"), key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in kept) - _MOST_IN_ALL
    for path in kept:
        if excess <= 0:
            break
        excess -= path.stat().st_size
        path.unlink()


def _path(inputs_hash: str, view_key: str) -> Path:
    key = hashlib.sha256(f"{inputs_hash} {view_key} {_code()} channels last".encode()).hexdigest()
    return cache_folder() / f"prepared-{key[:24]}.npy"


@cache
def _code() -> str:
    """A hash of the code that prepares, so that rows of another version are never taken for ours."""
    package = files("taskgroup.models")
    return hashlib.sha256(
        b"".join(package.joinpath(f"{name}.py").read_bytes() for name in _CODE)
    ).hexdigest()
