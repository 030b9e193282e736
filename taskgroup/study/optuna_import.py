"""Trials of a plain Optuna study as records: which targets they learnt together, and how well.

A trial says its grouping by one of

- a user attribute ``grouping``: lists of targets (``[["gap", "volume"], ["modulus"]]``), or a group per target
  (``{"gap": 0, "volume": 0, "modulus": 1}``), or the words ``{gap, volume} | {modulus}``;
- parameters ``group_<target>``, equal where targets are learnt together.

Values per target, where there are any, stand in a user attribute ``skills`` (a mapping), or are the objectives of a
study whose metrics are named after the targets.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from taskgroup.errors import GroupingError, RunError, did_you_mean
from taskgroup.grouping import Grouping
from taskgroup.tracking import TrialRecord

_GROUPING = "grouping"
_SKILLS = "skills"
_GROUP_PARAMETER = "group_"
_STATES = {TrialState.COMPLETE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAIL: "FAIL"}
_HOW = (
    "set its user attribute 'grouping' to lists of targets, or name its parameters group_<target> (equal values: "
    "learnt together)"
)


def read_optuna(storage: str, study_name: str | None) -> list[TrialRecord]:
    """Return a record per finished trial; values of minimised studies change their sign, so that higher is better.

    Raises RunError: the storage or the study is not there, or a trial does not say its grouping.
    """
    study = _open(storage, study_name)
    records = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state in _STATES:
            records.append(_record(study, trial))
    if not records:
        raise RunError(f"{storage}: study '{study.study_name}' has no finished trial")
    return records


def _open(storage: str, study_name: str | None) -> optuna.Study:
    # A file that is not there would be made.
    if "://" not in storage:
        if not Path(storage).is_file():
            raise RunError(
                f"{storage}: no such Optuna storage; give a URL or a SQLite or journal file"
            )
        storage = _of_file(Path(storage))
    names = optuna.get_all_study_names(storage)
    if study_name is None and len(names) == 1:
        study_name = names[0]
    if study_name not in names:
        hint = did_you_mean(study_name or "", names) if names else "it holds none"
        raise RunError(f"{storage}: no study '{study_name or ''}'; {hint}")
    return optuna.load_study(study_name=study_name, storage=storage)


def _of_file(path: Path) -> Any:
    if path.read_bytes()[:6] == b"SQLite":
        return f"sqlite:///{path.absolute()}"
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(backend)


def _record(study: optuna.Study, trial: FrozenTrial) -> TrialRecord:
    skills = _skills(study, trial)
    seconds = trial.duration.total_seconds() if trial.duration is not None else 0.0
    reason = trial.system_attrs.get("fail_reason", "") if trial.state == TrialState.FAIL else None
    return TrialRecord(
        number=trial.number,
        kind="trial",
        name=f"trial-{trial.number}",
        grouping=_grouping(study, trial),
        objective=_objective(study, trial, skills),
        skills=skills,
        gains={},
        settings=_settings(trial),
        state=_STATES[trial.state],
        fail_kind=None if reason is None else "error",
        fail_reason=reason,
        keys=(),
        n_cached=0,
        seconds=seconds,
    )


def _grouping(study: optuna.Study, trial: FrozenTrial) -> Grouping:
    where = f"study '{study.study_name}', trial {trial.number}"
    stated = trial.user_attrs.get(_GROUPING)
    if stated is None:
        stated = {}
        for name, value in trial.params.items():
            if name.startswith(_GROUP_PARAMETER):
                stated[name.removeprefix(_GROUP_PARAMETER)] = value
    if not stated:
        raise RunError(f"{where}: does not say which targets it learnt together; {_HOW}")
    if isinstance(stated, Mapping):
        targets_of_label = defaultdict(list)
        for target, label in stated.items():
            targets_of_label[label].append(target)
        stated = list(targets_of_label.values())
    try:
        if isinstance(stated, str):
            return Grouping.from_words(stated)
        return Grouping.from_nested(stated)
    except (GroupingError, TypeError) as error:
        raise RunError(f"{where}: its grouping cannot be read ({error}); {_HOW}") from None


def _skills(study: optuna.Study, trial: FrozenTrial) -> dict[str, float | None]:
    stated = trial.user_attrs.get(_SKILLS)
    if isinstance(stated, Mapping):
        return {str(target): _number(value) for target, value in stated.items()}
    names = study.metric_names
    if names is None or len(names) < 2 or trial.values is None:
        return {}
    signed = _higher_is_better(study, trial.values)
    return dict(zip(names, signed, strict=True))


def _objective(
    study: optuna.Study, trial: FrozenTrial, skills: Mapping[str, float | None]
) -> float | None:
    if trial.state != TrialState.COMPLETE:
        return None
    values = _higher_is_better(study, trial.values)
    known = [value for value in skills.values() if value is not None]
    if len(values) > 1 and known:
        values = known
    return sum(values) / len(values)


def _higher_is_better(study: optuna.Study, values: list[float]) -> list[float]:
    signed = []
    for value, direction in zip(values, study.directions, strict=True):
        signed.append(-value if direction == StudyDirection.MINIMIZE else value)
    return signed


def _settings(trial: FrozenTrial) -> dict[str, Any]:
    settings = {}
    for name, value in trial.params.items():
        if not name.startswith(_GROUP_PARAMETER):
            settings[f"hp/{name}"] = value
    return settings


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
