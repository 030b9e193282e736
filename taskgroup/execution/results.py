"""The cache of everything trained: one line a GroupResult, appended as soon as it exists.

A run folder holds ``results/<writer>.jsonl``, one file a writing process, so that several machines on a shared file
system never write to the same file. A line torn by a crash is dropped when its writer opens the file again.

Memory holds where each key's line stands, not what it says: 100,000 results with their curves would fill gigabytes. A
result is with the system when ``add`` returns, so that no kill of this process loses it; ``sync``, once a trial, brings
the file to the disk, against the power going.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from taskgroup.training import GroupResult

_RECENT = 1_000  # decoded results kept in memory
_HEAD = b'{"key":"'
_KEY_LENGTH = 64


class ResultStore:
    """GroupResults by key, on disk; safe for the threads of one process.

    Parameters
    ----------
    folder: where the ``.jsonl`` files lie; made if missing.
    writer: name of this process's file.
    """

    def __init__(self, folder: Path, writer: str = "main") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{writer}.jsonl"
        self._places: dict[str, tuple[Path, int, int]] = {}  # of the line: file, start, length
        self._recent: dict[str, GroupResult] = {}
        self._offsets: dict[Path, int] = {}
        self._todays: dict[Path, bool] = {}
        self._lock = threading.Lock()
        self._training: dict[str, threading.Event] = {}
        _drop_torn_line(self._path)
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[GroupResult]:
        return (_read(place) for place in list(self._places.values()))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> GroupResult | None:
        """The result of a job's key, if it was trained."""
        result = self._recent.get(key)
        if result is None and key in self._places:
            result = _read(self._places[key])
            with self._lock:
                self._keep(key, result)
        return result

    def add(self, result: GroupResult) -> None:
        """Keep a result; a kill of this process does not lose it. Adding a key again changes nothing."""
        with self._lock:
            if result.key in self._places:
                return
            line = (
                json.dumps(result.to_dict(), separators=(",", ":"), allow_nan=False) + "\n"
            ).encode()
            with self._path.open("ab") as file:
                start = file.tell()
                file.write(line)
            self._places[result.key] = self._path, start, len(line)
            self._keep(result.key, result)

    def sync(self) -> None:
        """Bring what was added to the disk."""
        if self._path.exists():
            with self._path.open("ab") as file:
                os.fsync(file.fileno())

    def refresh(self) -> None:
        """Read what other writers have added since."""
        with self._lock:
            for path in sorted(self._folder.glob("*.jsonl")):
                start = self._offsets.get(path, 0)
                with path.open("rb") as file:
                    file.seek(start)
                    for line in file:
                        if not line.endswith(b"\n"):
                            break
                        self._places.setdefault(self._key(path, line), (path, start, len(line)))
                        start += len(line)
                self._offsets[path] = start

    def claim(self, key: str) -> threading.Event | None:
        """None when the caller is to train the key; else an event, set when another thread is through with it."""
        with self._lock:
            if key in self._training:
                return self._training[key]
            event = threading.Event()
            if key in self._places:
                event.set()
                return event
            self._training[key] = event
            return None

    def release(self, key: str) -> None:
        """Give a claim back, trained or not; wakes who waits."""
        with self._lock:
            self._training.pop(key).set()

    def _keep(self, key: str, result: GroupResult) -> None:
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[key] = result

    def _key(self, path: Path, line: bytes) -> str:
        """The key of a line, as written if this version of taskgroup gives the file's first result the same key.

        An older version's settings may lack a field that now enters the key with its default.
        """
        if path not in self._todays:
            self._todays[path] = _decoded(line).key == json.loads(line)["key"]
        if self._todays[path] and line.startswith(_HEAD):
            return line[len(_HEAD) : len(_HEAD) + _KEY_LENGTH].decode()
        return _decoded(line).key


def _decoded(line: bytes) -> GroupResult:
    return GroupResult.from_dict(json.loads(line))


def _read(place: tuple[Path, int, int]) -> GroupResult:
    path, start, length = place
    with path.open("rb") as file:
        file.seek(start)
        return _decoded(file.read(length))


def _drop_torn_line(path: Path) -> None:
    """Cut what stands behind the last whole line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end and b"\n" not in tail:
            start = max(0, end - (1 << 16))
            file.seek(start)
            tail, end = file.read(end - start), start
        file.truncate(end + tail.rfind(b"\n") + 1)
