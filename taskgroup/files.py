"""Files that survive a kill: written whole or not at all, appended line by line, locked by one process.

Every module that writes to disk does it through this one, so that what happens at a crash is decided and tested once.
"""

import contextlib
import csv
import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import filelock
import numpy as np

from taskgroup.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

_PARTIAL = ".partial"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TAIL_BLOCK = 1 << 16  # bytes read at a time when looking for the last whole line


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it. Each writer has a temporary file of its own, so two
    processes may write the same file at once; the last one wins. The folder is made if it is missing.

    Parameters
    ----------
    path: the file to write.
    durable: bring the content to the disk first, so that it also survives a power failure.
    """
    final_path = Path(path)
    final_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = final_path.with_name(f"{final_path.name}.{uuid4().hex[:8]}{_PARTIAL}")
    try:
        yield temporary
        if durable:
            sync_file(temporary)
        os.replace(temporary, final_path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file whole or not at all. Raises ValueError: NaN or an infinite number, which JSON does not have."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False))


def plain_json(value: Any) -> Any:
    """Return nested mappings and sequences as JSON can hold them: NaN and infinite numbers become None.

    Tuples become lists, numpy scalars numbers and the keys of mappings text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_csv(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file whole or not at all; text that a spreadsheet would run is quoted, see ``safe_cell``."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for row in rows:
            writer.writerow([safe_cell(cell) for cell in row])


def csv_text(frame: "pd.DataFrame", *, index: bool = False) -> str:
    """Return a data frame as CSV; text that a spreadsheet would run is quoted, see ``safe_cell``."""
    import pandas as pd

    safe = frame.rename(columns=safe_cell, index=safe_cell)
    for place in range(safe.shape[1]):
        column = safe.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column):
            safe.isetitem(place, [safe_cell(cell) for cell in column])
    return safe.to_csv(index=index, lineterminator="\n")


def write_frame(path: str | Path, frame: "pd.DataFrame", *, index: bool = False) -> None:
    """Write a data frame as a CSV file, whole or not at all; see ``csv_text``."""
    write_text(path, csv_text(frame, index=index))


def safe_cell(cell: Any) -> Any:
    """Return a cell of a CSV file so that a spreadsheet shows it and runs nothing.

    Text that begins like a formula gets an apostrophe, as spreadsheets write it themselves; numbers stay.

    >>> safe_cell("=1+2"), safe_cell(-1.5), safe_cell("-1.5"), safe_cell("mp-1")
    ("'=1+2", -1.5, '-1.5', 'mp-1')
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA_STARTS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. Raises RunError: the file is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: must be JSON, but {error}.") from error


def sync_file(path: str | Path) -> None:
    """Bring what was written to a file to the disk, so that it survives a power failure."""
    with open(path, "ab") as file:
        os.fsync(file.fileno())


def append_line(path: str | Path, line: bytes, *, durable: bool = False) -> int:
    """Append one line (without its newline) in a single write and return the offset it starts at.

    The line is with the operating system when this returns, so a kill of this process does not lose it. A line that an
    earlier kill tore off is closed first: it stays a line of its own, and readers skip it.
    """
    with open(path, "ab+") as file:
        start = file.seek(0, os.SEEK_END)
        prefix = b""
        if start and not _ends_with_newline(file, start):
            prefix = b"\n"
        file.write(prefix + line + b"\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return start + len(prefix)


def read_whole_lines(path: str | Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield offset and content of each whole line from ``start`` on; a line still being written is left for later."""
    with open(path, "rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield offset, line
            offset += len(line)


def drop_torn_line(path: str | Path) -> None:
    """Cut off what stands behind the last whole line of a file; a missing file is fine."""
    if not Path(path).exists():
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end and b"\n" not in tail:
            start = max(0, end - _TAIL_BLOCK)
            file.seek(start)
            tail = file.read(end - start)
            end = start
        file.truncate(end + tail.rfind(b"\n") + 1)


@contextlib.contextmanager
def held_lock(path: str | Path, refusal: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the system frees it even when this process is killed.

    Raises RunError with the message ``refusal``: another process holds it.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(refusal) from None
    try:
        yield
    finally:
        lock.release()


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that nothing more can be written: no space, a quota, a limit of file sizes."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    # Libraries in other languages give the system's words only.
    return any(os.strerror(number) in str(error) for number in _DISK_FULL)


def _ends_with_newline(file: Any, size: int) -> bool:
    file.seek(size - 1)
    return file.read(1) == b"\n"
