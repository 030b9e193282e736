"""The number of trials a study may run, counted over all processes that search together."""

from collections.abc import Collection, Iterable

from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.tracking import TrialRecord


class TrialBudget:
    """Counts trials against a limit.

    A trial counts from the moment it begins: while it runs in any process, while it waits in the queue, and for ever
    once it is recorded. A trial that repeats an earlier one is free, but only as many of them as the limit: when the
    space is used up and every proposal is a repeat, the search has to end.

    Several processes ask at the same time and cannot see each other's next step. So a process first begins a trial,
    which gives it a number in the storage, and then asks again whether that number still has a place: all processes
    agree on the order of numbers, and those behind the limit are withdrawn.

    Parameters
    ----------
    recorded: numbers of the trials that were recorded before.
    repeats: number of repeats before.
    """

    def __init__(self, recorded: Iterable[int] = (), repeats: int = 0) -> None:
        self.limit = 0
        self._recorded = set(recorded)
        self._running: set[int] = set()
        self._repeats = repeats

    @property
    def used(self) -> int:
        """Number of recorded trials, and of repeats beyond those that are free."""
        return len(self._recorded) + self._paid_repeats

    @property
    def _paid_repeats(self) -> int:
        return max(0, self._repeats - self.limit)

    def may_begin(self, open_numbers: Collection[int] = (), number: int | None = None) -> bool:
        """Return whether there is a place for one more trial, or for the trial with this number.

        ``open_numbers`` are trials that run or wait in any process. Of a given number's competitors only the lower
        ones count: the place belongs to whoever began first.
        """
        competitors = self._recorded.union(self._running, open_numbers)
        if number is not None:
            competitors = {other for other in competitors if other < number}
        return len(competitors) + self._paid_repeats < self.limit

    def begun(self, number: int) -> None:
        """Count a trial that begins here."""
        self._running.add(number)

    def recorded(self, number: int) -> None:
        """Count a trial of this process that was recorded."""
        self._running.discard(number)
        self._recorded.add(number)

    def repeated(self, number: int) -> None:
        """Take back a trial of this process that turned out to repeat an earlier one."""
        self._running.discard(number)
        self._repeats += 1

    def withdrawn(self, number: int) -> None:
        """Take back a trial of this process that has no place."""
        self._running.discard(number)

    def seen_elsewhere(self, number: int) -> None:
        """Count a trial that another process has recorded."""
        self._recorded.add(number)


class PeerTrials:
    """Trials that other processes have recorded, each handed out once.

    Parameters
    ----------
    peers: the processes that search together; None where there is only this one.
    known: numbers of the trials that are known already.
    """

    def __init__(self, peers: Heartbeat | None, known: Iterable[int]) -> None:
        self._peers = peers
        self._known = set(known)

    def take(self) -> list[TrialRecord]:
        """Return the trials that others have recorded since the last call."""
        if self._peers is None:
            return []
        new_trials = []
        for record in self._peers.news():
            if record.is_trial and record.number not in self._known:
                self._known.add(record.number)
                new_trials.append(record)
        return new_trials

    def has_peers(self) -> bool:
        """Return whether other processes are alive."""
        return self._peers is not None and bool(self._peers.others())

    def count_alive(self, owners: Iterable[str]) -> int:
        """Return how many of these trial owners are other processes that are alive."""
        if not self.has_peers():
            return 0
        return sum(self._peers.lives(owner) for owner in owners)
