"""A small run folder with every kind and state of record."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from taskgroup.grouping import Group, Grouping
from taskgroup.tracking import StudyRecord, TrialRecord, append_record, write_study

TARGETS = ("band_gap", "density", "volume")
SINGLES = Grouping.singles(TARGETS)
PAIR = Grouping.from_partition([["density", "volume"], ["band_gap"]])
COVER = Grouping(
    (Group(("band_gap",)), Group(("band_gap", "density", "volume"), ("density", "volume")))
)


def _record(
    number: int, kind: str = "trial", objective: float | None = 0.5, **changes
) -> TrialRecord:
    skills = {} if objective is None else dict.fromkeys(TARGETS, objective)
    fields = {
        "number": number, "kind": kind, "name": f"{kind}-{number}", "grouping": PAIR, "objective": objective,
        "skills": skills, "gains": {target: value - 0.4 for target, value in skills.items()},
        "settings": {"hp/training.lr": 0.001, "grouping/method": "louvain"}, "state": "COMPLETE",
        "fail_kind": None, "fail_reason": None, "keys": (f"key{number}",), "n_cached": 1, "seconds": 2.5,
    }  # fmt: skip
    return TrialRecord(**(fields | changes))


@pytest.fixture
def make_record() -> Callable[..., TrialRecord]:
    return _record


@pytest.fixture
def records() -> list[TrialRecord]:
    curve = tuple({target: 0.1 * epoch for target in TARGETS} for epoch in range(1, 4))
    return [
        _record(
            0, "baseline", 0.4, name="singles", grouping=SINGLES, gains=dict.fromkeys(TARGETS, 0.0)
        ),
        _record(
            1, "trial", 0.6, curve=curve, metrics={"density": {"mae": 0.3, "r2": 0.6, "rmse": None}}
        ),
        _record(
            2, "trial", None, state="FAIL", fail_kind="nan", fail_reason="loss is NaN in epoch 2"
        ),
        _record(3, "trial", None, state="PRUNED"),
        _record(4, "trial", 0.5, gains={"band_gap": -0.2, "density": 0.3, "volume": 0.2}),
        _record(0, "assembled", 0.65, grouping=COVER, gains={}),
        _record(0, "refit", 0.75, grouping=COVER),
    ]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[Sequence[TrialRecord]], Path]:
    def make(records: Sequence[TrialRecord], name: str = "demo") -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        targets = {
            target: {"kind": "regression", "unit": "GPa", "transform": "none"} for target in TARGETS
        }
        dataset = {"name": "toy", "version": "1", "hash": "abc"}
        config = {"name": name, "search": {"n_trials": 8}, "space": {"model": {"width": 8}}}
        write_study(
            folder, StudyRecord(name, config, dataset, "split0", targets, {"taskgroup": "0.1.0"})
        )
        for record in records:
            append_record(folder, record)
        return folder

    return make


@pytest.fixture
def run(make_run: Callable, records: list[TrialRecord]) -> Path:
    return make_run(records)
