"""The cache of everything trained: one line a GroupResult, appended and flushed to disk as soon as it exists.

A run folder holds ``results/<writer>.jsonl``, one file a writing process, so that several machines on a shared file
system never write to the same file. A line torn by a crash is dropped when its writer opens the file again.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from taskgroup.training import GroupResult


class ResultStore:
    """GroupResults by key, on disk and in memory; safe for the threads of one process.

    Parameters
    ----------
    folder: where the ``.jsonl`` files lie; made if missing.
    writer: name of this process's file.
    """

    def __init__(self, folder: Path, writer: str = "main") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{writer}.jsonl"
        self._results: dict[str, GroupResult] = {}
        self._offsets: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._training: dict[str, threading.Event] = {}
        _drop_torn_line(self._path)
        self.refresh()

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[GroupResult]:
        return iter(list(self._results.values()))

    def get(self, key: str) -> GroupResult | None:
        """The result of a job's key, if it was trained."""
        return self._results.get(key)

    def add(self, result: GroupResult) -> None:
        """Keep a result; it is on disk when this returns. Adding a key again changes nothing."""
        with self._lock:
            if result.key in self._results:
                return
            line = json.dumps(result.to_dict(), separators=(",", ":"), allow_nan=False) + "\n"
            with self._path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self._results[result.key] = result

    def refresh(self) -> None:
        """Read what other writers have added since."""
        with self._lock:
            for path in sorted(self._folder.glob("*.jsonl")):
                with path.open("rb") as file:
                    file.seek(self._offsets.get(path, 0))
                    block = file.read()
                whole = block[: block.rfind(b"\n") + 1]
                self._offsets[path] = self._offsets.get(path, 0) + len(whole)
                for line in whole.splitlines():
                    result = GroupResult.from_dict(json.loads(line))
                    self._results.setdefault(result.key, result)

    def claim(self, key: str) -> threading.Event | None:
        """None when the caller is to train the key; else an event, set when another thread is through with it."""
        with self._lock:
            if key in self._training:
                return self._training[key]
            event = threading.Event()
            if key in self._results:
                event.set()
                return event
            self._training[key] = event
            return None

    def release(self, key: str) -> None:
        """Give a claim back, trained or not; wakes who waits."""
        with self._lock:
            self._training.pop(key).set()


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
