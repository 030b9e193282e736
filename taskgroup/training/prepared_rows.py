"""Prepared rows on disk: what takes minutes for thousands of crystals is done once per machine, not once per process.

Files are safetensors in ``TASKGROUP_CACHE``, by default ``~/.cache/taskgroup``. They may be deleted at any time, and
take at most 2 GiB.
"""

import contextlib
import hashlib
import logging
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from taskgroup.files import atomic_path
from taskgroup.models import PreparedRows
from taskgroup.models.views.rows import channels_first, channels_last

_log = logging.getLogger(__name__)
# Largest file: grids of thousands of crystals would fill a disk.
_MOST_BYTES = 1 << 29
# Limit of all files together; those used longest ago go first.
_MOST_IN_ALL = 1 << 31
# Earlier versions wrote .npy; such files are never read again, but count and go like the others.
_SUFFIXES = (".safetensors", ".npy")


def cache_folder() -> Path:
    """Return the folder of prepared rows."""
    named = os.environ.get("TASKGROUP_CACHE")
    return Path(named or Path.home() / ".cache" / "taskgroup").expanduser()


def load_prepared(inputs_hash: str, view_key: str, rows: int) -> PreparedRows | None:
    """Return the rows of a dataset as a view prepares them, float32; None where no whole file of them exists.

    The key of a view holds its version, so rows of another version of the code are never taken for ours.

    The tensors are mapped into memory: pages are read as they are used, once for all processes.
    """
    path = _path(inputs_hash, view_key)
    try:
        with safe_open(path, framework="pt") as file:
            names = (file.metadata() or {}).get("names", "").split(",")
            tensors = tuple(channels_first(file.get_tensor(name)) for name in names)
    except (SafetensorError, OSError):
        return None
    if any(len(tensor) != rows or tensor.dtype != torch.float32 for tensor in tensors):
        return None
    # the time of last use decides which files go
    with contextlib.suppress(OSError):
        os.utime(path)
    return PreparedRows(tuple(names), tensors)


def save_prepared(inputs_hash: str, view_key: str, rows: PreparedRows) -> None:
    """Keep prepared rows. Where that fails (no space, no permission) they are prepared again next time."""
    if rows.nbytes > _MOST_BYTES:
        return
    path = _path(inputs_hash, view_key)
    tensors = {name: channels_last(tensor).cpu().contiguous() for name, tensor in rows.items()}
    try:
        with atomic_path(path) as temporary:
            # the order of names is kept apart: safetensors sorts
            save_file(tensors, temporary, metadata={"names": ",".join(rows.names)})
        _make_room(path.parent)
    except (OSError, SafetensorError) as error:
        _log.info("prepared rows were not kept in %s: %s", path.parent, error)


def _make_room(folder: Path) -> None:
    """Remove the files used longest ago until the others keep the limit."""
    prepared = [path for path in folder.glob("prepared-*") if path.suffix in _SUFFIXES]
    files_by_age = sorted(prepared, key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in files_by_age) - _MOST_IN_ALL
    for path in files_by_age:
        if excess <= 0:
            break
        excess -= path.stat().st_size
        path.unlink()


def _path(inputs_hash: str, view_key: str) -> Path:
    content = f"{inputs_hash} {view_key}"
    key = hashlib.sha256(content.encode()).hexdigest()
    return cache_folder() / f"prepared-{key[:24]}.safetensors"
