"""One run in MLflow: its content made of a record, and written in few requests."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskgroup.settings_text import in_words
from taskgroup.tracking.leaderboard import plan_settings
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.report import plan_in_words
from taskgroup.tracking.verdict import mean_gain_in_words, number_in_words
from taskgroup.urls import redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Characters of a parameter; older servers refuse more, newer ones cut silently at 6000.
_LONGEST_PARAM = 500

# Characters of a tag; MLflow refuses more than 8000, older servers more than 5000.
_LONGEST_TAG = 5000

# Entries per request, MLflow's limits.
_METRICS_PER_REQUEST = 1000
_PARAMS_PER_REQUEST = 100

# MLflow's status by the state of a record. A pruned trial did what it was asked to and is no failure; the tag
# ``state`` tells it from a complete one.
STATUS_BY_STATE = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}

# The metrics worth a column of MLflow's table, in this order; no others are named without a slash.
COLUMNS = (
    "position",
    "objective",
    "mean_gain",
    "worst_gain",
    "negative_transfers",
    "new_seed_skill",
    "test_skill",
    "test_gain",
    "networks",
    "seconds",
)

Point = tuple[str, float | None, int]  # metric, value, step


@dataclass(frozen=True)
class RunContent:
    """Content of one run: metrics that are None or not finite are left out when it is written."""

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    curve: Iterable[Point] = ()

    def log(self, client: "MlflowClient", run_id: str) -> None:
        """Write everything to a run. MLflow keeps infinity as 1.8e308, which would lead every ranking: left out."""
        from mlflow.entities import Metric, Param, RunTag

        now = _milliseconds(time.time())
        points = [(name, value, 0) for name, value in self.metrics.items()]
        points += self.curve
        metrics = []
        for name, value, step in points:
            if value is not None and math.isfinite(value):
                metrics.append(Metric(name, float(value), now, step))
        params = []
        for name, value in self.params.items():
            text = param_text(value)
            if len(text) <= _LONGEST_PARAM:
                params.append(Param(name, text))
        tags = [RunTag(name, text[:_LONGEST_TAG]) for name, text in self.tags.items()]
        client.log_batch(run_id, metrics[:_METRICS_PER_REQUEST], params[:_PARAMS_PER_REQUEST], tags)
        for start in range(_METRICS_PER_REQUEST, len(metrics), _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics[start : start + _METRICS_PER_REQUEST])


def param_text(value: Any) -> str:
    """Return the value of a parameter as text, without passwords."""
    if not isinstance(value, str):
        value = json.dumps(value)
    return redact(value)


def trial_content(record: TrialRecord, slug_by_target: Mapping[str, str]) -> RunContent:
    """Return metrics, parameters and learning curve of a record. The refit's values are those on test rows.

    Metrics without a slash are those of ``COLUMNS``; every other one stands behind a prefix.
    """
    is_refit = record.kind == "refit"
    prefix = "test" if is_refit else "val"
    metrics: dict[str, float | None] = {
        "test_skill" if is_refit else "objective": record.objective,
        "seconds": record.seconds,
        "networks": len(record.grouping),
        "cost/cached_networks": record.n_cached,
    }
    metrics |= _gain_metrics(record.gains, slug_by_target)
    for target, values in record.metrics.items():
        for name, value in values.items():
            metrics[f"{prefix}/{slug_by_target[target]}/{name}"] = value
    for target, skill in record.skills.items():
        metrics[f"{prefix}/{slug_by_target[target]}/skill"] = skill
    curve = []
    for epoch, skills in enumerate(record.curve, start=1):
        for target, skill in skills.items():
            curve.append((f"curve/{slug_by_target[target]}", skill, epoch))
    return RunContent(metrics, record.settings or plan_params(record.plan), curve=curve)


def plan_params(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings that the networks of an assembled grouping share, and what each has besides."""
    params = plan_settings(plan)
    networks, _ = plan_in_words(plan)
    for number, network in enumerate(networks, start=1):
        settings = f", {network['settings']}" if network["settings"] else ""
        params[f"network/{number:02d}"] = f"{network['group']}: {network['backbone']}{settings}"
    return params


def trial_tags(record: TrialRecord) -> dict[str, str]:
    """Return the tags of a record's run; ``kind`` and ``trial`` together identify it."""
    tags = {
        "kind": record.kind,
        "name": record.name,
        "trial": str(record.number),
        "state": record.state,
        "grouping": str(record.grouping),
        "grouping_id": record.grouping.grouping_id,
        "mlflow.note.content": trial_note(record),
    }
    if record.fail_kind:
        tags["fail_kind"] = record.fail_kind
    if record.fail_reason:
        tags["fail_reason"] = redact(record.fail_reason)
    return {name: text[:_LONGEST_TAG] for name, text in tags.items()}


def final_content(final: FinalRecord, slug_by_target: Mapping[str, str]) -> RunContent:
    """Return metrics of a study's result, for the run of the choice and for that of the study."""
    metrics: dict[str, float | None] = {
        "new_seed_skill": final.reevaluation.mean,
        "test_skill": final.test_value.mean,
    }
    intervals = {"final/new_seed_skill": final.reevaluation, "final/test_skill": final.test_value}
    if final.test_gain is not None:
        metrics["test_gain"] = final.test_gain.mean
        intervals["final/test_gain"] = final.test_gain
    for target, gain in final.gains.items():
        intervals[f"final/gain/{slug_by_target[target]}"] = gain
    for name, interval in intervals.items():
        metrics[f"{name}/mean"] = interval.mean
        metrics[f"{name}/low"] = interval.low
        metrics[f"{name}/high"] = interval.high
    for target, values in final.test.items():
        for name, value in values.items():
            metrics[f"test/{slug_by_target[target]}/{name}"] = value
    return RunContent(metrics)


def summary_content(final: FinalRecord, records: Sequence[TrialRecord]) -> RunContent:
    """Return what the run of a study shows beside the metrics of its result: the choice, and what the search cost."""
    metrics: dict[str, float | None] = {
        "objective": final.search_value,
        "networks": len(final.grouping),
        "seconds": sum(record.seconds for record in records),
    }
    for record in records:
        if record.name == final.name:
            metrics |= _gain_summary(record.gains)
    tags = {
        "chosen": final.name,
        "grouping": str(final.grouping),
        "grouping_id": final.grouping.grouping_id,
    }
    return RunContent(metrics, tags=tags)


def trial_note(record: TrialRecord) -> str:
    """Return a record in a sentence, and its hyper-parameters, for MLflow's description of its run."""
    note = str(record.grouping)
    if record.state == "COMPLETE":
        note += f": mean skill {number_in_words(record.objective, '.4f')} on validation rows"
        gain = mean_gain_in_words(record.gains)
        if gain:
            note += f", mean gain over one network per property {gain}"
    elif record.state == "PRUNED":
        note += ": stopped early, since its groups could not become part of the best assembly"
    else:
        note += f": failed ({record.fail_kind})"
    settings = in_words(record.settings)
    return f"{note}.\n\n{settings}" if settings else f"{note}."


def study_params(config: Mapping[str, Any], prefix: str = "study") -> dict[str, Any]:
    """Return nested settings as ``study/search/n_trials``; the search space is left to ``study.json``."""
    params: dict[str, Any] = {}
    for name, value in config.items():
        if not isinstance(value, Mapping):
            params[f"{prefix}/{name}"] = value
        elif name != "space":
            params |= study_params(value, f"{prefix}/{name}")
    return params


def times_of(record: TrialRecord) -> tuple[int, int]:
    """Return when a record's work began and ended, in milliseconds since 1970."""
    end = datetime.fromisoformat(record.time).timestamp()
    return _milliseconds(end - record.seconds), _milliseconds(end)


def _gain_metrics(
    gains: Mapping[str, float | None], slug_by_target: Mapping[str, str]
) -> dict[str, float | None]:
    metrics = {f"gain/{slug_by_target[target]}": gain for target, gain in gains.items()}
    return metrics | _gain_summary(gains)


def _gain_summary(gains: Mapping[str, float | None]) -> dict[str, float | None]:
    known = [gain for gain in gains.values() if gain is not None]
    if not known:
        return {}
    return {
        "mean_gain": sum(known) / len(known),
        "worst_gain": min(known),
        "negative_transfers": sum(gain < 0 for gain in known),
    }


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
