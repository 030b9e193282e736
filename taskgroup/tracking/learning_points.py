"""Skill against the number of training rows: what more data would buy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskgroup.files import read_json, write_json
from taskgroup.intervals import Interval

LEARNING = "learning_curve.json"


@dataclass(frozen=True)
class LearningPoint:
    """The chosen grouping trained on a share of the training rows: mean rows per network, test skill of each target.

    Intervals are 95 % bootstrap intervals over test rows; ``mean`` is of the mean skill over targets.
    """

    share: float
    rows: float
    mean: Interval
    skills: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LearningPoint":
        """Return the point that ``to_dict`` gave."""
        skills = {target: Interval(**skill) for target, skill in content["skills"].items()}
        return cls(content["share"], content["rows"], Interval(**content["mean"]), skills)


def write_learning(run_dir: str | Path, points: Sequence[LearningPoint]) -> None:
    """Store a learning curve in the run folder."""
    content = [point.to_dict() for point in points]
    write_json(Path(run_dir) / LEARNING, content, indent=1)


def read_learning(run_dir: str | Path) -> list[LearningPoint]:
    """Return the learning curve of a run; empty where none was measured."""
    path = Path(run_dir) / LEARNING
    if not path.exists():
        return []
    return [LearningPoint.from_dict(point) for point in read_json(path)]
