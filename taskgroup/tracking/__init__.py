"""What a study leaves behind: records in the run folder, runs in MLflow, a leaderboard and a report.

    append_record("runs/demo", record)                  # one line a finished trial, on the disk at once
    rows = leaderboard(read_records("runs/demo"))       # best first, baselines visible

Nothing here imports MLflow or matplotlib before it is needed.
"""

from taskgroup.tracking.record import (
    FinalRecord,
    Interval,
    StudyRecord,
    TrialRecord,
    append_record,
    read_final,
    read_records,
    read_study,
    write_final,
    write_study,
)

__all__ = [
    "FinalRecord",
    "Interval",
    "StudyRecord",
    "TrialRecord",
    "append_record",
    "read_final",
    "read_records",
    "read_study",
    "write_final",
    "write_study",
]
