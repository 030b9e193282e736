"""What a run folder holds for reading without Optuna or MLflow.

    runs/<study>/study.json      StudyRecord: configuration, dataset, split, versions, state
    runs/<study>/trials.jsonl    TrialRecord, one line a finished trial, in the order they finished
    runs/<study>/trials-<process>.jsonl  the same, of a process that joined the run (``taskgroup worker``)
    runs/<study>/final.json      FinalRecord: the choice, its re-evaluation and its test metrics
    runs/<study>/test_predictions.csv  what the bundle says of the test rows, beside the truth
    runs/<study>/learning_curve.json   test skill against training rows, where it was measured
    runs/<study>/affinity/       the affinities that groupings were made from, one Affinity a file
    runs/<study>/transfer/       who helped whom (TransferReport), as CSV and JSON

These files come first and are the truth; MLflow gets the same records afterwards. Lines are appended with one write and
``fsync``; a line torn by a kill or a full disk is skipped on reading. A number that does not exist, or is not finite,
is ``null`` in the files and None in the records read back.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from taskgroup.errors import RunError
from taskgroup.files import plain_json
from taskgroup.grouping import Grouping

_log = logging.getLogger(__name__)

KINDS = ("baseline", "trial", "assembled", "refit")
STATES = ("COMPLETE", "PRUNED", "FAIL")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval over ``n`` repetitions (seeds, or bootstrap draws)."""

    mean: float | None
    low: float | None
    high: float | None
    n: int = 0


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial: what was tried, what it gave, what it cost.

    ``kind`` is one of ``KINDS``, ``state`` one of ``STATES``. ``skills`` and ``gains`` are per target (validation; test
    for ``refit``), ``settings`` a flat dict of ``hp/*`` and ``grouping/*``, ``keys`` the GroupResults it is made of,
    ``n_cached`` how many of them were trained before. ``fail_kind`` and ``fail_reason`` are set where ``state`` is
    ``FAIL``. ``curve`` is one ``{target: skill}`` an epoch; ``metrics`` holds further numbers a target (mae, auc...).
    """

    number: int
    kind: str
    name: str
    grouping: Grouping
    objective: float | None
    skills: dict[str, float | None]
    gains: dict[str, float | None]
    settings: dict[str, Any]
    state: str
    fail_kind: str | None
    fail_reason: str | None
    keys: tuple[str, ...]
    n_cached: int
    seconds: float
    curve: tuple[dict[str, float | None], ...] = ()
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    time: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RunError(
                f"trial {self.number}: kind must be one of {', '.join(KINDS)}, but got '{self.kind}'."
            )
        if self.state not in STATES:
            raise RunError(
                f"trial {self.number}: state must be one of {', '.join(STATES)}, but got '{self.state}'."
            )

    @property
    def run_name(self) -> str:
        """What the trial is called in MLflow, for example ``t0042-9f86d081884c``; unique within a study."""
        prefix = "t" if self.kind in ("baseline", "trial") else f"{self.kind}-"
        return f"{prefix}{self.number:04d}-{self.grouping.grouping_id}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, with ``grouping_id`` beside the grouping."""
        content = {name: value for name, value in vars(self).items() if name != "grouping"}
        grouping = {
            "grouping": json.loads(self.grouping.to_json()),
            "grouping_id": self.grouping.grouping_id,
        }
        return plain_json(content | grouping)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The record that ``to_dict`` gave; unknown keys of newer versions are ignored."""
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        known |= {
            "grouping": Grouping.from_json(json.dumps(content["grouping"])),
            "keys": tuple(content["keys"]),
            "curve": tuple(content.get("curve", ())),
        }
        return cls(**known)


@dataclass(frozen=True)
class FinalRecord:
    """The result of a study.

    ``search_value`` is the mean validation skill the choice was made by (too good: winner's curse), ``reevaluation``
    that of networks with new ``seeds`` on other folds, ``test_value`` the mean skill on rows never used before.
    ``gains`` are per target against learning it alone at the same budget, in the grouping named ``gains_of`` (the
    chosen one, or the best joint one where alone won); ``test`` holds per target what ``taskgroup evaluate`` prints (n,
    skill, low, high, ...).
    """

    grouping: Grouping
    name: str
    search_value: float | None
    reevaluation: Interval
    test_value: Interval
    gains: dict[str, Interval]
    test: dict[str, dict[str, float | None]]
    seeds: tuple[int, ...] = ()
    gains_of: str = ""
    time: str = field(default_factory=_now)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict, with ``grouping_id`` beside the grouping."""
        content = asdict(self) | {"grouping": json.loads(self.grouping.to_json())}
        return plain_json(content | {"grouping_id": self.grouping.grouping_id})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The record that ``to_dict`` gave."""
        return cls(
            grouping=Grouping.from_json(json.dumps(content["grouping"])),
            name=content["name"],
            search_value=content["search_value"],
            reevaluation=Interval(**content["reevaluation"]),
            test_value=Interval(**content["test_value"]),
            gains={target: Interval(**gain) for target, gain in content["gains"].items()},
            test=content["test"],
            seeds=tuple(content["seeds"]),
            gains_of=content.get("gains_of", ""),
            time=content["time"],
        )


@dataclass(frozen=True)
class StudyRecord:
    """What a study runs on: its configuration as given, the dataset, the split and the versions it ran with.

    ``dataset`` holds ``name``, ``version``, ``hash``; ``state`` is ``running``, ``interrupted`` or ``finished``;
    ``targets`` maps a name to ``{kind, unit, transform}``.
    """

    name: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    split_id: str
    targets: dict[str, dict[str, str]]
    versions: dict[str, str]
    state: str = "running"
    time: str = field(default_factory=_now)


def record_file(run_dir: str | Path, writer: str = "") -> Path:
    """Where a process writes its records: the one that conducts the run (no name), or one that joined it."""
    return Path(run_dir) / (f"trials-{writer}.jsonl" if writer else "trials.jsonl")


def record_files(run_dir: str | Path) -> list[Path]:
    """The files of all processes that have recorded something."""
    return sorted(Path(run_dir).glob("trials*.jsonl"))


def append_record(run_dir: str | Path, record: TrialRecord, writer: str = "") -> None:
    """Add one line to the file of a process; it is on the disk when this returns."""
    line = json.dumps(record.to_dict(), allow_nan=False) + "\n"
    path = record_file(run_dir, writer)
    with open(path, "ab+") as file:
        if file.tell() and not _ends_with_newline(path):
            line = "\n" + line  # a line torn by a kill stays a line of its own
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(run_dir: str | Path) -> list[TrialRecord]:
    """The finished trials of a run, oldest first; a number written twice counts once, the later line wins."""
    files = record_files(_existing_run(run_dir))
    found: dict[tuple[str, int], TrialRecord] = {}
    for path in files:
        for position, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        ):
            try:
                record = TrialRecord.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError):
                _log.warning("%s line %d is torn and was skipped", path, position)
                continue
            found[record.kind, record.number] = record
    return (
        sorted(found.values(), key=lambda record: record.time)
        if len(files) > 1
        else list(found.values())
    )


def write_study(run_dir: str | Path, record: StudyRecord) -> None:
    """Write ``study.json`` atomically."""
    write_json(Path(run_dir) / "study.json", plain_json(asdict(record)))


def read_study(run_dir: str | Path) -> StudyRecord:
    """Read ``study.json``; a folder without it is not a run (RunError)."""
    content = read_json(_existing_run(run_dir) / "study.json")
    return StudyRecord(
        **{name: content[name] for name in StudyRecord.__dataclass_fields__ if name in content}
    )


def write_final(run_dir: str | Path, record: FinalRecord) -> None:
    """Write ``final.json`` atomically."""
    write_json(Path(run_dir) / "final.json", record.to_dict())


def read_final(run_dir: str | Path) -> FinalRecord | None:
    """Read ``final.json``; None while the study has not come to its end."""
    path = _existing_run(run_dir) / "final.json"
    return FinalRecord.from_dict(read_json(path)) if path.exists() else None


def _existing_run(run_dir: str | Path) -> Path:
    folder = Path(run_dir)
    if not (folder / "study.json").exists():
        raise RunError(f"{folder}: a run folder holds study.json, but there is none here.")
    return folder


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(draft, path)


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises RunError where it is not readable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: must be JSON, but {error}.") from error
