"""The processes that work on one run at the same time, on one machine or several: who lives, and what they recorded.

Each is known by ``HOST-PID`` and touches a file of that name in ``workers/`` of the run folder as long as it lives. On
its own machine a process that is gone is known at once; elsewhere by its file, which is then no longer touched. (The
file counts here as well: the number of a process that is gone may belong to another one now.)

Optuna has heartbeats too, for databases alone; a run may as well use a journal file.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import zlib
from pathlib import Path
from types import TracebackType

from taskgroup.execution.channel import process_name
from taskgroup.files import read_whole_lines
from taskgroup.tracking import TrialRecord, record_file, record_files

_log = logging.getLogger(__name__)

# Seconds between two touches of the file.
_BEAT_SECONDS = 10.0
# Some beats may come late, on a busy machine or a slow file system, before a process is taken for dead.
_SILENT_SECONDS = 60.0


class Heartbeat:
    """This process among those that work on a run; alive inside ``with``.

    Parameters
    ----------
    folder: the run folder.
    joins: whether this process joins a run that another one conducts.
    """

    def __init__(self, folder: Path, *, joins: bool = False) -> None:
        self.name = process_name()
        # Name of the files that this process writes; the conductor's have none.
        self.writer = self.name if joins else ""
        # Number of its stream of random numbers.
        self.stream = zlib.crc32(self.name.encode()) if joins else 0
        self._file = folder / "workers" / self.name
        self._ended = threading.Event()
        self._inbox = PeerInbox(folder, self.writer)

    def __enter__(self) -> "Heartbeat":
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            # A full disk or a file system that is away: the next beat may succeed, and whoever writes will tell.
            with contextlib.suppress(OSError):
                self._file.touch()

    def lives(self, name: str) -> bool:
        """Return whether another process still works; False for this one, and for what is no process's name."""
        host, _, pid = name.rpartition("-")
        if name == self.name or not host or not pid.isdigit():
            return False
        try:
            last_beat = (self._file.parent / name).stat().st_mtime
        except FileNotFoundError:
            return False
        # Both times are the file system's: the clocks of machines differ.
        now = self._file.stat().st_mtime
        if now - last_beat >= _SILENT_SECONDS:
            return False
        return host != socket.gethostname() or _process_exists(int(pid))

    def others(self) -> list[str]:
        """Return the names of the other processes that live."""
        names = [path.name for path in self._file.parent.iterdir()]
        return [name for name in names if self.lives(name)]

    def news(self) -> list[TrialRecord]:
        """Return the records that others have added since the last call, or since this object was made."""
        return self._inbox.take()


class PeerInbox:
    """The records that other processes of a run add, each handed out once.

    Parameters
    ----------
    folder: the run folder; records that are there already are not handed out.
    writer: name of this process's own file, which is not read.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._folder = folder
        self._own_file = record_file(folder, writer)
        self._offsets = {path: path.stat().st_size for path in record_files(folder)}

    def take(self) -> list[TrialRecord]:
        """Return the records that were added since the last call."""
        records = []
        for path in record_files(self._folder):
            if path == self._own_file:
                continue
            for start, line in read_whole_lines(path, self._offsets.get(path, 0)):
                self._offsets[path] = start + len(line)
                record = _decoded(path, line)
                if record is not None:
                    records.append(record)
        return records


def _decoded(path: Path, line: bytes) -> TrialRecord | None:
    """Return the record of a line; None where a kill tore it off, which the writer's next line has closed."""
    if not line.strip():
        return None
    try:
        return TrialRecord.from_dict(json.loads(line))
    except ValueError:
        _log.warning("%s: a line is torn and was skipped", path)
        return None


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
