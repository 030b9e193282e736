"""Records of a study: one per finished trial, one for its result, one for what it runs on.

A number that does not exist, or is not finite, is ``null`` in the files and None in the records read back.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from taskgroup.errors import RunError
from taskgroup.files import plain_json
from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval

KINDS = ("baseline", "trial", "assembled", "refit")
STATES = ("COMPLETE", "PRUNED", "FAIL")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial: what was tried, what it gave, what it cost.

    Attributes:
        number: counts per kind (baselines and trials together).
        kind: one of ``KINDS``; ``assembled`` are groupings made of trained groups, ``refit`` is measured on test rows.
        name: what the trial is called in every table, in MLflow and in Optuna; unique within a study.
        skills, gains: per target, on validation rows (``refit``: test rows); a gain is against the target alone.
        settings: a flat dict of ``hp/*`` and ``grouping/*``.
        state: one of ``STATES``; ``fail_kind`` and ``fail_reason`` are set where it is ``FAIL``.
        keys: of the GroupResults it is made of; ``n_cached`` of them were trained before.
        seconds: how long it took; it ended at ``time`` (ISO 8601, UTC).
        curve: one ``{target: skill}`` per epoch.
        metrics: further numbers per target (mae, auc...).
        plan: grouping and recipe of each group, as ``Plan.to_dict`` gives it; None in records of older versions.
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
    plan: dict[str, Any] | None = None

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
    def is_trial(self) -> bool:
        """Return whether Optuna ran it: a baseline or a proposed trial."""
        return self.kind in ("baseline", "trial")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, with ``grouping_id`` beside the grouping."""
        return _with_plain_grouping(vars(self), self.grouping)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the record that ``to_dict`` gave; unknown keys of newer versions are ignored."""
        fields = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        fields["grouping"] = _grouping(content)
        fields["keys"] = tuple(content["keys"])
        fields["curve"] = tuple(content.get("curve", ()))
        return cls(**fields)


@dataclass(frozen=True)
class FinalRecord:
    """The result of a study.

    Attributes:
        grouping, name: the choice.
        search_value: mean validation skill the choice was made by (too good: winner's curse).
        reevaluation: of networks with new ``seeds`` on other folds.
        test_value: mean skill on rows never used before.
        gains: per target against learning it alone at the same budget, in the grouping named ``gains_of`` (the chosen
            one, or the best joint one where one network per target won), over seeds and validation folds.
        test: per target what ``taskgroup evaluate`` prints (n, skill, low, high, ...) and its gain on test rows.
        test_gain: mean skill of the choice minus that of one network per target, on test rows, with its paired
            bootstrap interval; None in records of older versions.
        plan: grouping and recipe of each group, as ``Plan.to_dict`` gives it; None in records of older versions.
        expected_gains: per target the skill expected of new seeds less that of its best network alone, on validation
            rows; empty in records of older versions.
        probabilities: that the choice is better than ``singles``, ``together`` and other baselines, by what is expected
            of new seeds on validation rows; empty in records of older versions.
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
    test_gain: Interval | None = None
    plan: dict[str, Any] | None = None
    expected_gains: dict[str, Interval] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, with ``grouping_id`` beside the grouping."""
        return _with_plain_grouping(asdict(self), self.grouping)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the record that ``to_dict`` gave; unknown keys of newer versions are ignored."""
        fields = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        fields["grouping"] = _grouping(content)
        fields["seeds"] = tuple(content["seeds"])
        for name in ("reevaluation", "test_value"):
            fields[name] = Interval(**content[name])
        if content.get("test_gain") is not None:
            fields["test_gain"] = Interval(**content["test_gain"])
        for name in ("gains", "expected_gains"):
            gains = content.get(name, {})
            fields[name] = {target: Interval(**gain) for target, gain in gains.items()}
        return cls(**fields)


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


def _with_plain_grouping(fields: Mapping[str, Any], grouping: Grouping) -> dict[str, Any]:
    plain = {"grouping": json.loads(grouping.to_json()), "grouping_id": grouping.grouping_id}
    return plain_json({**fields, **plain})


def _grouping(content: Mapping[str, Any]) -> Grouping:
    return Grouping.from_json(json.dumps(content["grouping"]))
