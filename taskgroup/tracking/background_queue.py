"""Calls that nobody waits for: copying records to MLflow takes longer than all other bookkeeping of a trial."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundQueue:
    """Runs calls in a thread of its own, one after the other.

    What a call raises is raised by the next ``call``, or by ``wait``. What a kill leaves undone is lost: only for work
    that is found missing and done later, as ``Tracker.sync`` does.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")
        self._pending: deque[Future] = deque()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a function soon."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(function, *arguments))

    def wait(self) -> None:
        """Return when everything is done."""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """Wait and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
