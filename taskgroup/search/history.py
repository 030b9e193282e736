"""Finished trials as the search needs them: to know a repeat, to compute gains, and to give up early."""

from collections.abc import Iterable, Sequence

from taskgroup.errors import TaskgroupError
from taskgroup.spec.sections import SINGLES
from taskgroup.tracking import TrialRecord

# After so many equal failures in a row, from the first trial on, a search gives up.
_EQUAL_FAILURES = 4


class SearchHistory:
    """The finished trials of a study, of all its processes.

    Parameters
    ----------
    records: the trials of earlier runs.
    """

    def __init__(self, records: Sequence[TrialRecord] = ()) -> None:
        self.skills_alone: dict[str, float | None] = {}
        """Skill of every target learnt alone, from the baseline; empty before it has ended."""
        self._number_of_keys: dict[tuple[str, ...], int] = {}
        self._first_failures: list[str | None] = []
        # A study that has trials can train; what fails in a resumed run is not a broken study.
        self._has_worked = bool(records)
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Remember a finished trial."""
        if not record.is_trial:
            return
        if record.state != "FAIL":
            self._number_of_keys.setdefault(record.keys, record.number)
        if record.skills and is_baseline(record, SINGLES):
            self.skills_alone = dict(record.skills)

    def repeated_trial(self, record: TrialRecord) -> int | None:
        """Return the number of the earlier trial that trained the same networks; None where there is none.

        A baseline is never a repeat: it is compared with, so it must stand in every study.
        """
        if record.kind != "trial":
            return None
        return self._number_of_keys.get(record.keys)

    def check_start(self, record: TrialRecord) -> None:
        """Raise TaskgroupError when the first trials of a study all failed for one reason: more would fail, too."""
        if record.state != "FAIL":
            self._has_worked = True
        if self._has_worked:
            return
        self._first_failures.append(record.fail_reason)
        n_failures = len(self._first_failures)
        if n_failures >= _EQUAL_FAILURES and len(set(self._first_failures)) == 1:
            raise TaskgroupError(
                f"the first {_EQUAL_FAILURES} trials all failed ({record.fail_kind}): {record.fail_reason}"
            )


def is_baseline(record: TrialRecord, name: str) -> bool:
    """Return whether a record is that of the baseline with this name."""
    return record.kind == "baseline" and record.name == name


def baseline_records(records: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    """Return the records of the baselines by name."""
    return {record.name: record for record in records if record.kind == "baseline"}
