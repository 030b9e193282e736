"""Calls that nobody waits for: copying records to MLflow takes longer than all other bookkeeping of a trial."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundQueue:
    """Runs calls in a thread of its own, one after the other.

    What a call raises is raised by the next ``call``, or by ``wait``. What a kill leaves undone is lost: only for work
    that is found and made up for later, as ``Tracker.sync`` does.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="later")
        self._open: deque[Future] = deque()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function soon."""
        while self._open and self._open[0].done():
            self._open.popleft().result()
        self._open.append(self._pool.submit(function, *arguments))

    def wait(self) -> None:
        """Return when everything is done."""
        while self._open:
            self._open.popleft().result()

    def close(self) -> None:
        """Wait and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()
