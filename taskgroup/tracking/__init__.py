"""What a study leaves behind: records in the run folder, runs in MLflow, a leaderboard and a report.

    append_record("runs/demo", record)                       # one line per finished trial, on the disk at once
    Tracker("runs/demo").sync()                              # MLflow gets what it does not have yet
    leaderboard_frame(read_records("runs/demo"))             # best first, baselines visible

Nothing here imports MLflow or matplotlib before it is needed.
"""

from taskgroup.intervals import Interval
from taskgroup.tracking.background_queue import BackgroundQueue
from taskgroup.tracking.leaderboard import (
    leaderboard,
    leaderboard_frame,
    leaderboard_notes,
    leaderboard_table,
)
from taskgroup.tracking.mlflow import Tracker
from taskgroup.tracking.mlflow_client import rows_from_mlflow, tracking_uri
from taskgroup.tracking.moved import follow_move
from taskgroup.tracking.record import FinalRecord, StudyRecord, TrialRecord
from taskgroup.tracking.run_folder import (
    append_record,
    find_run,
    read_final,
    read_records,
    read_study,
    record_file,
    record_files,
    runs_folder,
    write_final,
    write_study,
)
from taskgroup.tracking.verdict import verdict_sentence

__all__ = [
    "BackgroundQueue",
    "FinalRecord",
    "Interval",
    "StudyRecord",
    "Tracker",
    "TrialRecord",
    "append_record",
    "find_run",
    "follow_move",
    "leaderboard",
    "leaderboard_frame",
    "leaderboard_notes",
    "leaderboard_table",
    "read_final",
    "read_records",
    "read_study",
    "record_file",
    "record_files",
    "rows_from_mlflow",
    "runs_folder",
    "tracking_uri",
    "verdict_sentence",
    "write_final",
    "write_study",
]
