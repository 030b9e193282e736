"""The failed trainings of a run, for ``taskgroup failures``.

<run>/failures.jsonl   one FailedTraining per line, also of trainings that succeeded at a later attempt
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taskgroup.execution.executor import Failure
from taskgroup.files import append_line, read_whole_lines
from taskgroup.training import GroupJob

_log = logging.getLogger(__name__)

_FILE = "failures.jsonl"


@dataclass(frozen=True)
class FailedTraining:
    """One attempt to train a network that failed.

    Parameters
    ----------
    kind, reason: as in ``Failure``.
    targets: what the network was to learn.
    key: of its job.
    log: the file that its process printed to, below the run folder; empty where it had none.
    time: seconds since 1970.
    """

    kind: str
    reason: str
    targets: tuple[str, ...]
    key: str
    log: str
    time: float


def append_failure(folder: Path, job: GroupJob, failure: Failure) -> None:
    """Record a failed training in the run folder."""
    record = FailedTraining(
        failure.kind, failure.reason, job.targets, job.key, failure.log, time.time()
    )
    append_line(folder / _FILE, json.dumps(asdict(record)).encode())


def read_failures(folder: Path) -> Sequence[FailedTraining]:
    """Return the failed trainings of a run, oldest first; a torn line is skipped."""
    path = folder / _FILE
    failures: list[FailedTraining] = []
    if not path.exists():
        return failures
    for _, line in read_whole_lines(path):
        try:
            content = json.loads(line)
            content["targets"] = tuple(content["targets"])
            failures.append(FailedTraining(**content))
        except (ValueError, KeyError, TypeError):
            _log.warning("%s: a line is torn and was skipped", path)
    return failures
