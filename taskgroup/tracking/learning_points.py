"""Skill against the number of training rows: what more data would buy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskgroup.files import read_json, write_json
from taskgroup.intervals import Interval
from taskgroup.tracking.figures import COLOURS, DARK, figure_grid, svg

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


def learning_figure(points: Sequence[LearningPoint]) -> str:
    """Draw test skill of each target, and of their mean, against training rows; "" without points."""
    if not points:
        return ""
    figure, (axes,) = figure_grid(1, 1, 4.2, width=6.4)
    rows = [point.rows for point in points]
    for number, target in enumerate(points[0].skills):
        skills = [point.skills[target].mean for point in points]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(rows, skills, "o-", color=colour, linewidth=1.2, markersize=3, label=target)
    means = [point.mean.mean for point in points]
    axes.plot(rows, means, "s-", color=DARK, linewidth=2, markersize=4, label="mean")
    low = [point.mean.low for point in points]
    high = [point.mean.high for point in points]
    axes.fill_between(rows, low, high, color=DARK, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{n:.0f}" for n in rows])
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel("skill (test rows)")
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return svg(figure, "learning")
