"""Skill against the number of training rows: what more data would buy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskgroup.tracking.figures import COLOURS, figure_grid, svg
from taskgroup.tracking.record import Interval, read_json, write_json

LEARNING = "learning_curve.json"


@dataclass(frozen=True)
class LearningPoint:
    """The chosen grouping trained on a share of the training rows: mean rows a network, test skill of each target.

    Intervals are 95 % bootstrap intervals over test rows; ``mean`` is of the mean skill over targets.
    """

    share: float
    rows: float
    mean: Interval
    skills: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def write_learning(run_dir: str | Path, points: Sequence[LearningPoint]) -> None:
    """Keep a learning curve in the run folder."""
    write_json(Path(run_dir) / LEARNING, [point.to_dict() for point in points])


def read_learning(run_dir: str | Path) -> list[LearningPoint]:
    """The learning curve of a run; empty where none was measured."""
    path = Path(run_dir) / LEARNING
    if not path.exists():
        return []
    return [
        LearningPoint(
            share=point["share"],
            rows=point["rows"],
            mean=Interval(**point["mean"]),
            skills={target: Interval(**skill) for target, skill in point["skills"].items()},
        )
        for point in read_json(path)
    ]


def learning_figure(points: Sequence[LearningPoint]) -> str:
    """Test skill of each target, and of their mean, against training rows; "" without points."""
    if not points:
        return ""
    figure, (axes,) = figure_grid(1, 1, 4.2, width=6.4)
    rows = [point.rows for point in points]
    for number, target in enumerate(points[0].skills):
        means = [point.skills[target].mean for point in points]
        axes.plot(
            rows,
            means,
            "o-",
            color=COLOURS[number % len(COLOURS)],
            linewidth=1.2,
            markersize=3,
            label=target,
        )
    bounds = [[getattr(point.mean, end) for point in points] for end in ("low", "high")]
    axes.plot(
        rows,
        [point.mean.mean for point in points],
        "s-",
        color="#333",
        linewidth=2,
        markersize=4,
        label="mean",
    )
    axes.fill_between(rows, *bounds, color="#333", alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(rows, [f"{n:.0f}" for n in rows])
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel("skill (test rows)")
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return svg(figure, "learning")
