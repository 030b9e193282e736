"""The files of a run folder, for reading without Optuna or MLflow.

    runs/<study>/study.json      StudyRecord: configuration, dataset, split, versions, state
    runs/<study>/trials.jsonl    TrialRecord, one line per finished trial, in the order they finished
    runs/<study>/trials-<process>.jsonl  the same, of a process that joined the run (``taskgroup worker``)
    runs/<study>/final.json      FinalRecord: the choice, its re-evaluation and its test metrics
    runs/<study>/test_predictions.csv  predictions of the bundle for the test rows, beside the truth
    runs/<study>/learning_curve.json   test skill against training rows, where it was measured
    runs/<study>/affinity/       the affinities that groupings were made from, one Affinity per file
    runs/<study>/transfer/       who helped whom (TransferReport), as CSV and JSON
    runs/<study>/figures/        the figures of a finished run with their numbers, as they are copied to MLflow

These files come first and are the truth; MLflow gets the same records afterwards. A line is on the disk when it was
written; one torn by a kill or a full disk is skipped on reading.
"""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from taskgroup.errors import RunError, did_you_mean
from taskgroup.files import append_line, plain_json, read_json, write_json
from taskgroup.tracking.record import FinalRecord, StudyRecord, TrialRecord

_log = logging.getLogger(__name__)

STUDY_FILE = "study.json"
FINAL_FILE = "final.json"


def runs_folder() -> Path:
    """Return ``runs`` under TASKGROUP_HOME, or under the working directory."""
    return Path(os.environ.get("TASKGROUP_HOME", ".")) / "runs"


def find_run(run: str | Path) -> Path:
    """Return a run folder by its path, or by the name of its study in ``runs_folder``. Raises RunError: none there."""
    for folder in (Path(run), runs_folder() / run):
        if (folder / STUDY_FILE).exists():
            return folder
    names = [path.parent.name for path in runs_folder().glob(f"*/{STUDY_FILE}")]
    hint = f"nor is there a run in {runs_folder()}"
    if names:
        hint = did_you_mean(str(run), names)
    raise RunError(f"{run}: a run folder holds study.json, but there is none here; {hint}")


def record_file(run_dir: str | Path, writer: str = "") -> Path:
    """Return where a process writes its records: the one that conducts the run (no name), or one that joined it."""
    name = f"trials-{writer}.jsonl" if writer else "trials.jsonl"
    return Path(run_dir) / name


def record_files(run_dir: str | Path) -> list[Path]:
    """Return the files of all processes that have recorded something."""
    return sorted(Path(run_dir).glob("trials*.jsonl"))


def append_record(run_dir: str | Path, record: TrialRecord, writer: str = "") -> None:
    """Add one line to the file of a process; it is on the disk when this returns."""
    line = json.dumps(record.to_dict(), allow_nan=False)
    append_line(record_file(run_dir, writer), line.encode(), durable=True)


def read_records(run_dir: str | Path) -> list[TrialRecord]:
    """Return the finished trials of a run, oldest first; of a trial written twice the later line counts."""
    files = record_files(_existing_run(run_dir))
    records: dict[tuple[str, int], TrialRecord] = {}
    for path in files:
        for record in _records_of(path):
            records[record.kind, record.number] = record
    if len(files) > 1:
        return sorted(records.values(), key=lambda record: record.time)
    return list(records.values())


def write_study(run_dir: str | Path, record: StudyRecord) -> None:
    """Write ``study.json`` whole or not at all."""
    write_json(Path(run_dir) / STUDY_FILE, plain_json(asdict(record)), indent=1)


def read_study(run_dir: str | Path) -> StudyRecord:
    """Read ``study.json``. Raises RunError: the folder has none, so it is not a run."""
    path = _existing_run(run_dir) / STUDY_FILE
    content = read_json(path)
    names = StudyRecord.__dataclass_fields__
    try:
        return StudyRecord(**{name: content[name] for name in names if name in content})
    except TypeError as error:
        raise RunError(f"{path}: must describe a study, but {error}") from error


def write_final(run_dir: str | Path, record: FinalRecord) -> None:
    """Write ``final.json`` whole or not at all."""
    write_json(Path(run_dir) / FINAL_FILE, record.to_dict(), indent=1)


def read_final(run_dir: str | Path) -> FinalRecord | None:
    """Read ``final.json``; None while the study has not come to its end."""
    path = _existing_run(run_dir) / FINAL_FILE
    if not path.exists():
        return None
    try:
        return FinalRecord.from_dict(read_json(path))
    except (RunError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: is damaged; mend it with 'taskgroup doctor {run_dir} --repair'"
        ) from error


def _records_of(path: Path) -> list[TrialRecord]:
    records = []
    # Not read_whole_lines: of a finished run the last line counts even if its newline is missing.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(TrialRecord.from_dict(json.loads(line)))
        except (ValueError, KeyError, TypeError):
            _log.warning("%s line %d is torn and was skipped", path, number)
    return records


def _existing_run(run_dir: str | Path) -> Path:
    folder = Path(run_dir)
    if not (folder / STUDY_FILE).exists():
        raise RunError(f"{folder}: a run folder holds study.json, but there is none here.")
    return folder
