"""One way for processes to talk: JSON messages over a connection, with deadlines on both ends. Nothing is pickled.

The parent owns every worker process. A WorkerProcess starts one, sends and receives messages, tells what became of a
process that ended, and ends it. The process itself runs ``run_worker``, which calls a function with its end of the
channel: ``serve`` of ``taskgroup.execution.worker`` or of ``taskgroup.execution.measure``.

No process outlives its parent. A worker that waits sees the connection close. One that trains sends a sign of life
every second and ends when that cannot be delivered. One that is stopped (SIGSTOP) is in a process group of its own
within the parent's session: the kernel hangs up on a stopped group whose parent is gone (POSIX, "orphaned process
group").
"""

import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from taskgroup.execution.executor import Failure

Message = dict[str, Any]  # "kind" and what belongs to it, plain JSON
_ALIVE = "alive"
# Often enough that an orphan ends before a restarted study has loaded its libraries.
_BEAT_SECONDS = 1.0
# A worker that computes sends a sign of life every second, whatever it computes; minutes of silence mean it hangs.
SILENCE_SECONDS = 300.0
# A process whose connection is closed has nothing left to do but end.
_END_SECONDS = 60.0
_LAST_LINE_CHARACTERS = 500
_BOOTSTRAP = "from taskgroup.execution.channel import run_worker; run_worker()"


def process_name() -> str:
    """Return ``HOST-PID``, the name of this process among those that work on a run."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Disconnected(Exception):
    """Nobody is at the other end of a channel."""


class Channel:
    """One end of a connection; threads may send at the same time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Send a message. Raises Disconnected; TimeoutError: nobody reads what was sent."""
        data = json.dumps({"kind": kind, **content}).encode()
        with self._sending, _connection_errors():
            self.connection.send_bytes(data)

    def receive(self) -> Message:
        """Wait for a message and return it. Raises Disconnected; TimeoutError: it stopped halfway."""
        with _connection_errors():
            data = self.connection.recv_bytes()
        return json.loads(data)

    @contextlib.contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Send a sign of life every second while the block runs; end this process when nobody is there to hear it."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_BEAT_SECONDS):
                try:
                    self.send(_ALIVE)
                except Disconnected:
                    os._exit(0)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class WorkerProcess:
    """A process of ours that answers requests, as its parent sees it.

    Parameters
    ----------
    function: what the process runs, as ``package.module:function``; it is called with its Channel and the arguments.
    arguments: further arguments of that function.
    log: the file that everything it prints is appended to.
    environment: variables added to this process's own.
    silence_limit: seconds without any message after which a worker that has work is taken for hung.
    """

    def __init__(
        self,
        function: str,
        arguments: Sequence[str] = (),
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        silence_limit: float = SILENCE_SECONDS,
    ) -> None:
        self._function = function
        self._arguments = arguments
        self.log = log
        self._environment = environment or {}
        self.silence_limit = silence_limit
        self._process: subprocess.Popen | None = None
        self._channel: Channel | None = None
        self._hangs = False
        self._last_heard = 0.0
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Number of the process; None where there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def connection(self) -> Connection:
        """The parent's end of the connection, to be waited for."""
        return self._channel.connection

    def start(self) -> None:
        """Start the process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        _limit_blocking(ours, self.silence_limit)
        descriptor = theirs.fileno()
        command = [sys.executable, "-c", _BOOTSTRAP, self._function, str(descriptor)]
        with ours, theirs, self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self._environment,
                pass_fds=[descriptor],
                # Ctrl-C reaches the study alone, which then ends its workers.
                process_group=0,
            )
            self._channel = Channel(Connection(ours.detach()))
        self._hangs = False
        self._last_heard = time.monotonic()

    def send(self, kind: str, **content: Any) -> None:
        """Send a message. That a process is dead is noticed where its answer is read."""
        # A worker that had nothing to do was rightly silent.
        self._last_heard = time.monotonic()
        with contextlib.suppress(Disconnected, TimeoutError):
            self._channel.send(kind, **content)

    def receive(self, deadline: float | None = None) -> Message | None:
        """Return the next message; None where the process has ended or hangs. Raises TimeoutError past the deadline."""
        ((_, message),) = next_messages([self], deadline)
        return message

    def read(self) -> Message | None:
        """Return the message that has arrived; None where the process has ended or stopped halfway through it."""
        try:
            message = self._channel.receive()
        except TimeoutError:
            self.give_up()
            return None
        except Disconnected:
            return None
        self._last_heard = time.monotonic()
        return message

    @property
    def silence_ends(self) -> float:
        """Time (of ``time.monotonic``) from which on the worker is taken for hung, if nothing is heard till then."""
        return self._last_heard + self.silence_limit

    def give_up(self) -> None:
        """Take the process for hung."""
        self._hangs = True

    def post_mortem(self) -> Failure:
        """Return what became of a process that answers no more, and end it."""
        if self._hangs:
            self.close()
            return Failure("time_out", f"worker gave no sign of life for {self.silence_limit:g} s")
        try:
            code = self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.close()
            return Failure("error", "worker closed its connection without ending")
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", often the system running out of memory" if name == "SIGKILL" else ""
            return Failure("signal", f"worker ended by {name}{hint}")
        return Failure("error", self._last_line() or f"worker ended with code {code}")

    def close(self) -> None:
        """End the process at once, stopped ones too; may be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._channel.connection.close()
            self._process = None

    def _last_line(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:_LAST_LINE_CHARACTERS] if lines else ""


def next_messages(
    workers: Sequence[WorkerProcess], deadline: float | None = None
) -> list[tuple[WorkerProcess, Message | None]]:
    """Wait until some workers have something to say and return one message of each of them.

    A message of None says that the worker has ended or hangs: ``post_mortem`` tells why. Raises TimeoutError: nothing
    was said until the deadline (in seconds of ``time.monotonic``).
    """
    while True:
        until = min(worker.silence_ends for worker in workers)
        if deadline is not None:
            until = min(until, deadline)
        seconds_left = max(0.0, until - time.monotonic())
        ready = wait([worker.connection for worker in workers], seconds_left)
        messages: list[tuple[WorkerProcess, Message | None]] = []
        for worker in workers:
            if worker.connection in ready:
                message = worker.read()
                if message is None or message["kind"] != _ALIVE:
                    messages.append((worker, message))
            elif time.monotonic() >= worker.silence_ends:
                worker.give_up()
                messages.append((worker, None))
        if messages:
            return messages
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError


def run_worker() -> None:
    """Run a worker process: call the function named on the command line with this end of the channel.

    The process ends with code 0 when its parent is gone.
    """
    function, descriptor, *arguments = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    sys.excepthook = _end_with_traceback
    # A process started from here must not hold the connection open.
    os.set_inheritable(int(descriptor), False)
    channel = Channel(Connection(int(descriptor)))
    module_name, _, function_name = function.partition(":")
    serve = getattr(importlib.import_module(module_name), function_name)
    with contextlib.suppress(Disconnected):
        serve(channel, *arguments)
    _end(0)


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise TimeoutError from error
    except (EOFError, OSError) as error:
        raise Disconnected from error


def _limit_blocking(end: socket.socket, seconds: float) -> None:
    """Let a read or write raise BlockingIOError after some seconds: the other process may stop halfway through it."""
    limit = struct.pack("ll", max(1, int(seconds)), 0)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _end_with_traceback(*error: Any) -> None:
    traceback.print_exception(*error)
    _end(1)


def _end(code: int) -> None:
    """End at once: threads of libraries may abort an interpreter that is taken down, which would hide the error."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
