"""The cache of everything trained, and the files of each result.

    <run>/results/<writer>.jsonl      one GroupResult per line, appended as soon as it exists
    <run>/results/pending/<key>.json  a GroupResult whose files are there and whose line is not, yet
    <run>/predictions/<key>.npy       predictions for the validation rows
    <run>/networks/<key>.safetensors  the network, where it was kept
    <run>/checkpoints/<key>.safetensors  a network in training
    <run>/claims/<key>.<token>        the process that trains it, see ``taskgroup.execution.claims``

Each writing process has a file of its own, so that several machines on a shared file system never write to the same
one. A line torn by a crash is dropped when its writer opens the file again.

A result becomes visible in one step. Whoever trains writes its files, then the pending result. Whoever owns the store
appends the line, then removes the pending result. A kill in between costs nothing: ``recover`` appends the line.

Memory holds where the line of each key stands, not what it says: 100,000 results with their curves would fill
gigabytes. A result is with the system when ``add`` returns, so that no kill of this process loses it; ``sync``, once
per trial, brings the file to the disk, so that it also survives a power failure.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskgroup.errors import RunError
from taskgroup.files import append_line, drop_torn_line, read_json, read_whole_lines, sync_file
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)

# Decoded results kept in memory: those of some trials.
_RECENT_RESULTS = 1_000
# Every line begins with its key, a SHA-256 in hexadecimal, so that the key is known without decoding the line.
_LINE_HEAD = b'{"key":"'
_KEY_LENGTH = 64
_RESULTS = "results"
_PENDING = "pending"
# What reading a line raises that a disk or a person has damaged.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError)


def network_path(folder: Path, key: str) -> Path:
    """Return the file of a result's network, below the run folder; it exists where networks were kept."""
    return folder / "networks" / f"{key}.safetensors"


def prediction_path(folder: Path, key: str) -> Path:
    """Return the file of a result's validation predictions: float32 [validation rows, targets], natural units."""
    return folder / "predictions" / f"{key}.npy"


def checkpoint_path(folder: Path, key: str) -> Path:
    """Return the file that a killed training of this key goes on from."""
    return folder / "checkpoints" / f"{key}.safetensors"


def pending_path(folder: Path, key: str) -> Path:
    """Return the file of a result that has its files and no line yet, below the run folder."""
    return folder / _RESULTS / _PENDING / f"{key}.json"


def pending_content(result: GroupResult, owner: str) -> dict[str, Any]:
    """Return what a pending file holds: the result, and the process that is to append its line."""
    return {"owner": owner, "result": result.to_dict()}


class ResultStore:
    """GroupResults by key, on disk; safe for the threads of one process.

    Parameters
    ----------
    folder: ``results`` of the run folder; made if missing.
    writer: name of this process's file.
    """

    def __init__(self, folder: Path, writer: str = "main") -> None:
        self._folder = folder
        self._path = folder / f"{writer}.jsonl"
        self._places: dict[str, tuple[Path, int]] = {}  # file of the line, and where it starts
        self._recent: dict[str, GroupResult] = {}
        self._offsets: dict[Path, int] = {}  # how far each file was read
        self._keys_hold: dict[Path, bool] = {}
        self._lock = threading.Lock()
        self._in_training: dict[str, threading.Event] = {}
        folder.mkdir(parents=True, exist_ok=True)
        drop_torn_line(self._path)
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[GroupResult]:
        for key, (path, start) in list(self._places.items()):
            try:
                yield _read(path, start)
            except _DAMAGE as error:
                self._forget(key, path, start, error)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> GroupResult | None:
        """Return the result of a job's key; None where it was not trained, or its line is damaged."""
        result = self._recent.get(key)
        if result is None and key in self._places:
            path, start = self._places[key]
            try:
                result = _read(path, start)
            except _DAMAGE as error:
                self._forget(key, path, start, error)
                return None
            with self._lock:
                self._remember(result)
        return result

    def add(self, result: GroupResult) -> None:
        """Append a result, which no kill of this process loses from then on. Adding a key again changes nothing."""
        content = json.dumps(result.to_dict(), separators=(",", ":"), allow_nan=False)
        with self._lock:
            if result.key not in self._places:
                start = append_line(self._path, content.encode())
                self._places[result.key] = self._path, start
                self._remember(result)
        self._pending_path(result.key).unlink(missing_ok=True)

    def recover(self, lives: Callable[[str], bool] = lambda owner: False) -> int:
        """Append the results that a kill left without their lines and return how many there were.

        Only one process of a run may do so at a time. ``lives(owner)`` answers whether a process still works; it will
        append the lines of its own results.
        """
        recovered = 0
        for path in sorted((self._folder / _PENDING).glob("*.json")):
            pending = _read_pending(path)
            if pending is None:
                continue
            owner, result = pending
            if result.key in self:
                path.unlink(missing_ok=True)
            elif not lives(owner):
                self.add(result)
                recovered += 1
        return recovered

    def recover_one(self, key: str) -> None:
        """Append the result of one network that a kill left without its line; for the process that claims it now."""
        path = self._pending_path(key)
        if not path.exists():
            return
        pending = _read_pending(path)
        if pending is not None:
            _, result = pending
            self.add(result)

    def sync(self) -> None:
        """Bring what was added to the disk."""
        if self._path.exists():
            sync_file(self._path)

    def refresh(self) -> None:
        """Read what other writers have added since."""
        with self._lock:
            for path in sorted(self._folder.glob("*.jsonl")):
                self._read_new_lines(path)

    def claim(self, key: str) -> threading.Event | None:
        """Return None when the caller is to train the key; else an event, set when another thread is done with it."""
        with self._lock:
            if key in self._in_training:
                return self._in_training[key]
            event = threading.Event()
            if key in self._places:
                event.set()
                return event
            self._in_training[key] = event
            return None

    def release(self, key: str) -> None:
        """Give a claim back, trained or not, and wake those who wait for it."""
        with self._lock:
            self._in_training.pop(key).set()

    def _read_new_lines(self, path: Path) -> None:
        for start, line in read_whole_lines(path, self._offsets.get(path, 0)):
            self._offsets[path] = start + len(line)
            if not line.strip():
                continue
            try:
                key = self._key(path, line)
            except _DAMAGE as error:
                _log.warning("%s: %s", path, _damage_report(start, error))
                continue
            # The later line counts: where there are two, the first is damaged or says the same.
            self._places[key] = path, start

    def _forget(self, key: str, path: Path, start: int, error: Exception) -> None:
        """Take a result for missing whose line cannot be read."""
        _log.warning("%s: %s", path, _damage_report(start, error))
        with self._lock:
            self._places.pop(key, None)

    def _key(self, path: Path, line: bytes) -> str:
        """Return the key that this version of taskgroup gives the job of a line.

        The settings of an older version may lack a field that now enters the key with its default. Decoding every line
        of a large file takes long, so the first line of each file decides whether the keys still hold as written.
        """
        if path not in self._keys_hold:
            written_key = json.loads(line)["key"]
            self._keys_hold[path] = _decoded(line).key == written_key
        if self._keys_hold[path] and line.startswith(_LINE_HEAD):
            return line[len(_LINE_HEAD) : len(_LINE_HEAD) + _KEY_LENGTH].decode()
        return _decoded(line).key

    def _remember(self, result: GroupResult) -> None:
        if len(self._recent) >= _RECENT_RESULTS:
            self._recent.clear()
        self._recent[result.key] = result

    def _pending_path(self, key: str) -> Path:
        return self._folder / _PENDING / f"{key}.json"


def _damage_report(start: int, error: Exception) -> str:
    """Return what is said of a line that is left out."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"the line at byte {start} is damaged ({reason}); its network is trained again"


def _decoded(line: bytes) -> GroupResult:
    return GroupResult.from_dict(json.loads(line))


def _read(path: Path, start: int) -> GroupResult:
    with path.open("rb") as file:
        file.seek(start)
        return _decoded(file.readline())


def _read_pending(path: Path) -> tuple[str, GroupResult] | None:
    """Return owner and result of a pending file; None where its owner has just appended it, or it is damaged."""
    try:
        content = read_json(path)
        return content["owner"], GroupResult.from_dict(content["result"])
    except FileNotFoundError:
        return None
    except (RunError, KeyError, TypeError, ValueError) as error:
        _log.warning("%s: cannot be read, its network is trained again (%s)", path, error)
        path.unlink(missing_ok=True)
        return None
