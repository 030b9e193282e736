"""The processes that work on one run at the same time, on one machine or several: who lives, and what they recorded.

Each is known by ``HOST-PID`` and touches a file of that name in ``workers/`` of the run folder as long as it lives. On
its own machine a process that is gone is known at once; elsewhere by its file, which is then no longer touched. (The
file counts here as well: the number of a process that is gone may belong to another one now.)
"""

import json
import os
import socket
import threading
import zlib
from pathlib import Path
from types import TracebackType

from taskgroup.tracking import TrialRecord, record_file, record_files

_BEAT, _SILENT = 10.0, 60.0  # seconds between touches, and after which a process is taken for dead


class Heartbeat:
    """This process among those that work on a run; alive inside ``with``.

    Parameters
    ----------
    folder: the run folder.
    joins: whether this process joins a run that another one conducts.
    """

    def __init__(self, folder: Path, *, joins: bool = False) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.writer = self.name if joins else ""
        self.stream = zlib.crc32(self.name.encode()) if joins else 0  # of random numbers
        self._folder = folder
        self._pulse = folder / "workers" / self.name
        self._ended = threading.Event()
        self._offsets = {path: path.stat().st_size for path in record_files(folder)}

    def __enter__(self) -> "Heartbeat":
        self._pulse.parent.mkdir(parents=True, exist_ok=True)
        self._pulse.touch()
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
        self._pulse.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            self._pulse.touch()

    def lives(self, name: str) -> bool:
        """Whether another process works on; this one, and what is no name, does not count."""
        host, _, pid = name.rpartition("-")
        if name == self.name or not host or not pid.isdigit():
            return False
        try:
            silent = self._pulse.stat().st_mtime - (self._pulse.parent / name).stat().st_mtime
        except FileNotFoundError:
            return False
        return silent < _SILENT and (host != socket.gethostname() or _exists(int(pid)))

    def others(self) -> list[str]:
        """The other processes that live."""
        return [path.name for path in self._pulse.parent.iterdir() if self.lives(path.name)]

    def news(self) -> list[TrialRecord]:
        """The records that others have added since the last call, or since this object was made."""
        found = []
        own = record_file(self._folder, self.writer)
        for path in record_files(self._folder):
            start = self._offsets.get(path, 0)
            if path == own or path.stat().st_size <= start:
                continue
            with path.open("rb") as file:
                file.seek(start)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # still being written
                    start += len(line)
                    if line.strip():
                        found.append(TrialRecord.from_dict(json.loads(line)))
            self._offsets[path] = start
        return found


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
