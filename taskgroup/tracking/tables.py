"""What a run gave, as data frames: for people who go on in Python, for figures and for the files beside them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.affinity import Affinity
from taskgroup.errors import RunError, did_you_mean
from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval
from taskgroup.tracking.learning_points import LearningPoint
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.verdict import gain_in_a_word

if TYPE_CHECKING:
    import pandas as pd

TRANSFER_MATRIX = "transfer/pairwise.json"


def best_grouping(records: Iterable[TrialRecord], final: FinalRecord | None) -> Grouping | None:
    """Return the choice; before the end the best grouping so far, None before the first trial has finished."""
    if final is not None:
        return final.grouping
    scored = []
    for record in records:
        if record.objective is not None and record.kind != "refit":
            scored.append(record)
    if not scored:
        return None
    return max(scored, key=lambda record: record.objective).grouping


def gains_table(final: FinalRecord | None, rows: str = "validation") -> "pd.DataFrame":
    """Return ``target, gain, low, high, verdict``, best first; empty before the end.

    ``rows`` are ``validation`` (the grouping ``gains_of``, over seeds and folds; they helped to choose) or ``test``
    (the chosen grouping, on rows never used before; these count). Raises RunError: other rows.
    """
    import pandas as pd

    intervals_of = {"validation": _validation_gains, "test": test_gains}
    if rows not in intervals_of:
        raise RunError(f"gains: unknown rows '{rows}'; {did_you_mean(rows, intervals_of)}")
    lines = []
    if final is not None:
        for target, gain in intervals_of[rows](final).items():
            line = {"target": target, "gain": gain.mean, "low": gain.low, "high": gain.high}
            lines.append(line | {"verdict": gain_in_a_word(gain)})
    columns = ["target", "gain", "low", "high", "verdict"]
    frame = pd.DataFrame(lines, columns=columns)
    frame = frame.astype({"gain": float, "low": float, "high": float})
    return frame.sort_values("gain", ascending=False, kind="stable", ignore_index=True)


def history_table(
    records: Iterable[TrialRecord], final: FinalRecord | None = None
) -> "pd.DataFrame":
    """Return ``number, name, kind, state, objective, seconds, grouping`` in the order the trials finished.

    The choice stands last with the value it had when trained again, as kind ``trained again``.
    """
    import pandas as pd

    lines = []
    for record in records:
        if record.kind != "refit":
            line = {name: getattr(record, name) for name in ("number", "name", "kind", "state")}
            line |= {"objective": record.objective, "seconds": record.seconds}
            lines.append(line | {"grouping": str(record.grouping)})
    if final is not None:
        line = {"name": final.name, "kind": "trained again", "state": "COMPLETE"}
        line |= {"objective": final.reevaluation.mean, "grouping": str(final.grouping)}
        lines.append(line)
    columns = ["number", "name", "kind", "state", "objective", "seconds", "grouping"]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype({"number": "Int64", "objective": float, "seconds": float})


def training_table(records: Iterable[TrialRecord]) -> "pd.DataFrame":
    """Return ``name, kind, epoch, skill`` (mean over targets) of trials with a curve: baselines, then the best."""
    import pandas as pd

    with_curve = [record for record in records if record.objective is not None and record.curve]
    with_curve.sort(key=lambda record: (record.kind != "baseline", -record.objective))
    lines = []
    for record in with_curve:
        for epoch, skills in enumerate(record.curve, start=1):
            line = {"name": record.name, "kind": record.kind, "epoch": epoch}
            lines.append(line | {"skill": _mean_skill(list(skills.values()))})
    return pd.DataFrame(lines, columns=["name", "kind", "epoch", "skill"])


def learning_table(points: Iterable[LearningPoint]) -> "pd.DataFrame":
    """Return ``target, share, rows, skill, low, high`` of a learning curve; the mean over targets is ``mean``."""
    import pandas as pd

    lines = []
    for point in points:
        for target, skill in [*point.skills.items(), ("mean", point.mean)]:
            line = {"target": target, "share": point.share, "rows": point.rows}
            lines.append(line | {"skill": skill.mean, "low": skill.low, "high": skill.high})
    return pd.DataFrame(lines, columns=["target", "share", "rows", "skill", "low", "high"])


def read_affinity(run_dir: str | Path, measure: str | None = None) -> Affinity | None:
    """Return an affinity that the search used, by default Spearman's where it did; None where it used none.

    Raises RunError: it did not use this one.
    """
    paths = {path.stem: path for path in sorted(Path(run_dir).glob("affinity/*.json"))}
    if measure is not None and measure not in paths:
        raise RunError(
            f"{run_dir}: the search used no affinity '{measure}'; {did_you_mean(measure, paths)}"
        )
    if not paths:
        return None
    first = "spearman" if "spearman" in paths else next(iter(paths))
    return Affinity.from_json(paths[measure or first].read_text(encoding="utf-8"))


def read_transfer_matrix(run_dir: str | Path) -> Affinity | None:
    """Return what each target gained from each other, as measured; None where no report of transfer was written."""
    path = Path(run_dir) / TRANSFER_MATRIX
    if not path.exists():
        return None
    return Affinity.from_json(path.read_text(encoding="utf-8"))


def _validation_gains(final: FinalRecord) -> Mapping[str, Interval]:
    return final.gains


def test_gains(final: FinalRecord) -> dict[str, Interval]:
    """Return test skill minus that of the target learnt alone, of targets in joint groups, where it was measured."""
    gains = {}
    for target, metrics in final.test.items():
        is_joint = len(final.grouping.serving(target).targets) > 1
        if is_joint and metrics.get("gain") is not None:
            low, high = metrics.get("gain_low"), metrics.get("gain_high")
            gains[target] = Interval(metrics["gain"], low, high)
    return gains


def _mean_skill(values: Sequence[Any]) -> float:
    # Skills are clipped as in the objective of a study.
    known = [max(value, -1.0) for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")
