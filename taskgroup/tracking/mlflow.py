"""A study in MLflow: the study is a parent run, every record of ``trials.jsonl`` a child run.

- The run folder is the truth and is written first; MLflow is a copy. A call that fails is logged as a warning and made
  up for by ``sync``, which replays what MLflow does not have yet. So a resumed study logs nothing twice, and a tracking
  server that is away costs a trial nothing.
- Run ids are explicit and a trial is one batch. The parent process alone writes, and creates the database.
- Only finite numbers are logged: MLflow keeps infinity as 1.8e308, which would lead every ranking.
- Target names become slugs, since MLflow refuses names such as ``E (eV)``; ``labels.json`` of the parent has them.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.tracking.leaderboard import leaderboard
from taskgroup.tracking.mlflow_client import (
    connect,
    create_database,
    default_uri,
    search_runs,
    slugs,
)
from taskgroup.tracking.record import FinalRecord, TrialRecord, read_records, read_study, write_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)
_PAUSE = 60.0  # seconds without a new attempt after a failure
_LONGEST = (
    500  # characters of a parameter; older servers refuse more, newer ones cut silently at 6000
)
_BATCH = 1000  # metrics a request, MLflow's limit
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class Tracker:
    """Copies the records of one run folder to MLflow.

    Parameters
    ----------
    run_dir: a run folder with ``study.json``.
    run_name: of the parent run; default: the study's name.
    experiment: its name; default ``taskgroup/<dataset>``.
    uri: MLflow tracking URI; default: SQLite in the run folder.
    artifact_location: where a new experiment keeps artifacts; default: ``mlartifacts`` in the run folder, or, with a
        server, what that chooses.

    The database, the experiment and the parent run are made by the first call; ``mlflow.json`` in the run folder
    remembers them, so that a resumed study goes on in the same parent run.
    """

    def __init__(
        self,
        run_dir: str | Path,
        run_name: str | None = None,
        *,
        experiment: str | None = None,
        uri: str | None = None,
        artifact_location: str | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        self.uri = uri or default_uri(run_dir)
        self._study = read_study(run_dir)
        self._run_name = run_name or self._study.name
        self.experiment = experiment or f"taskgroup/{self._study.dataset['name']}"
        here = (
            None
            if self.uri.startswith("http")
            else (self.run_dir.resolve() / "mlartifacts").as_uri()
        )
        self._artifacts = artifact_location or here
        self._slugs = slugs(self._study.targets)
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._parent = ""
        self._logged: set[str] = set()
        self._best = -math.inf
        self._paused_until = 0.0

    @property
    def parent_run_id(self) -> str:
        """The run of the study in MLflow; empty while no call has reached the server."""
        return self._parent

    def sync(self, records: Iterable[TrialRecord] | None = None) -> None:
        """Log every record that MLflow does not have yet; default: those of ``trials.jsonl``."""
        self._paused_until = 0.0
        self._safely(lambda: None)
        for record in read_records(self.run_dir) if records is None else records:
            self.log_trial(record)

    def log_trial(self, record: TrialRecord) -> None:
        """Log one record as a child run, unless it is there already."""
        if record.run_name not in self._logged:
            self._safely(lambda: self._log_trial(record))

    def log_final(self, final: FinalRecord) -> None:
        """Log the choice of the study on the parent: values with intervals, gains, test metrics.

        Where the run folder holds its bundle, ``export``, the refit becomes a child run with the bundle as artifact.
        """
        metrics = {"final/search_value": final.search_value}
        intervals = {"final/reevaluation": final.reevaluation, "final/test": final.test_value}
        intervals |= {f"gain/{self._slugs[target]}": gain for target, gain in final.gains.items()}
        for name, interval in intervals.items():
            metrics |= {
                name: interval.mean,
                f"{name}/low": interval.low,
                f"{name}/high": interval.high,
            }
        for target, values in final.test.items():
            metrics |= {
                f"test/{self._slugs[target]}/{name}": value for name, value in values.items()
            }
        tags = {"grouping": str(final.grouping)[:5000], "grouping_id": final.grouping.grouping_id}

        def log() -> None:
            self._batch(self._parent, metrics, tags=tags)
            self._client.log_dict(self._parent, final.to_dict(), "final.json")

        self._safely(log)
        if (self.run_dir / "export").is_dir():
            self.log_refit(refit_record(final), self.run_dir / "export")

    def log_refit(self, record: TrialRecord, bundle_dir: str | Path) -> None:
        """Log the refit as a child run with the exported bundle as its artifact ``bundle``."""

        def log() -> None:
            run_id = self._log_trial(record)
            self._client.log_artifacts(run_id, str(bundle_dir), "bundle")

        if record.run_name not in self._logged:
            self._safely(log)

    def log_artifacts(self, *paths: str | Path) -> None:
        """Log files or folders (figures, matrices, the report) on the parent run."""

        def log() -> None:
            for path in map(Path, paths):
                if path.is_dir():
                    self._client.log_artifacts(self._parent, str(path), path.name)
                else:
                    self._client.log_artifact(self._parent, str(path))

        self._safely(log)

    def close(self, state: str = "finished") -> None:
        """Log what is missing and the leaderboard, and end the parent run; ``state`` as in StudyRecord."""
        self.sync()

        def end() -> None:
            self._client.log_dict(
                self._parent, {"rows": leaderboard(read_records(self.run_dir))}, "leaderboard.json"
            )
            self._client.set_tag(self._parent, "state", state)
            self._client.set_terminated(
                self._parent, "FINISHED" if state == "finished" else "KILLED"
            )

        self._safely(end)

    # -- the calls that may fail ----------------------------------------------------------------------------------

    def _safely(self, call: Callable[[], Any]) -> None:
        """Run a call to MLflow; a failure is a warning and a pause, never an error."""
        if time.monotonic() < self._paused_until:
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if not self._parent:
                self._open()
            call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._paused_until = time.monotonic() + _PAUSE
            reason = str(error).splitlines()[0][:200]
            _log.warning(
                "MLflow at %s did not take a record, it will be sent again later: %s",
                self.uri,
                reason,
            )

    def _open(self) -> None:
        """Find or make the parent run, and see which records it has."""
        if self.uri == default_uri(self.run_dir):
            create_database(self.run_dir / "mlflow.db")
        self._client = connect(self.uri)
        parent = self._remembered_parent()
        if parent is None:
            self._experiment_id = self._find_experiment()
            parent = self._create_parent()
        self._find_logged(parent)
        self._parent = parent

    def _remembered_parent(self) -> str | None:
        path = self.run_dir / "mlflow.json"
        remembered = json.loads(path.read_text()) if path.exists() else {}
        if not remembered or (remembered["uri"] or default_uri(self.run_dir)) != self.uri:
            return None
        self._experiment_id = remembered["experiment_id"]
        self._client.update_run(remembered["run_id"], status="RUNNING")
        return remembered["run_id"]

    def _create_parent(self) -> str:
        tags = {"kind": "study", "state": "running", "mlflow.note.content": self._note()}
        run_id = self._client.create_run(
            self._experiment_id, run_name=self._run_name, tags=tags
        ).info.run_id
        self._batch(run_id, {}, params=_flat(self._study.config))
        self._client.log_dict(
            run_id, {slug: target for target, slug in self._slugs.items()}, "labels.json"
        )
        self._client.log_artifact(run_id, str(self.run_dir / "study.json"))
        own = self.uri == default_uri(
            self.run_dir
        )  # then no path is kept, so that the folder may move
        content = {
            "uri": None if own else self.uri,
            "experiment_id": self._experiment_id,
            "run_id": run_id,
        }
        write_json(self.run_dir / "mlflow.json", content)
        return run_id

    def _note(self) -> str:
        dataset = self._study.dataset
        return f"dataset {dataset['name']} {dataset.get('version', '')}, hash {dataset.get('hash', '')}".strip()

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(self.experiment, artifact_location=self._artifacts)

    def _find_logged(self, parent: str) -> None:
        """Remember the child runs that are complete; half-logged ones (a kill) are deleted and logged again."""
        for run in search_runs(
            self._client, self._experiment_id, f"tags.`mlflow.parentRunId` = '{parent}'"
        ):
            if run.info.status in _STATUS.values():
                self._logged.add(run.info.run_name)
                self._best = max(self._best, run.data.metrics.get("objective", -math.inf))
            else:
                self._client.delete_run(run.info.run_id)

    def _log_trial(self, record: TrialRecord) -> str:
        tags = {
            "mlflow.parentRunId": self._parent,
            "kind": record.kind,
            "name": record.name,
            "trial": str(record.number),
            "state": record.state,
            "grouping": str(record.grouping)[:5000],
            "grouping_id": record.grouping.grouping_id,
        }
        tags |= {
            key: str(getattr(record, key))[:5000]
            for key in ("fail_kind", "fail_reason")
            if getattr(record, key)
        }
        run = self._client.create_run(self._experiment_id, run_name=record.run_name, tags=tags)
        run_id = run.info.run_id
        self._batch(
            run_id, self._metrics(record), params=record.settings, curve=self._curve(record)
        )
        self._client.log_dict(run_id, record.to_dict(), "record.json")
        if (
            record.kind != "refit"
            and record.objective is not None
            and record.objective > self._best
        ):
            self._best = record.objective
            self._client.log_metric(
                self._parent, "best/objective", self._best, step=len(self._logged)
            )
        self._client.set_terminated(run_id, _STATUS[record.state])
        self._logged.add(record.run_name)
        return run_id

    def _metrics(self, record: TrialRecord) -> dict[str, float | None]:
        part = "test" if record.kind == "refit" else "val"
        gains = [gain for gain in record.gains.values() if gain is not None]
        metrics = {
            "test/objective" if record.kind == "refit" else "objective": record.objective,
            "n_negative_transfer": sum(gain < 0 for gain in gains) if gains else None,
            "gain/mean": sum(gains) / len(gains) if gains else None,
            "gain/min": min(gains, default=None),
            "cost/seconds": record.seconds,
            "cost/n_networks": len(record.grouping),
            "cost/n_cached": record.n_cached,
        }
        metrics |= {f"gain/{self._slugs[target]}": gain for target, gain in record.gains.items()}
        for target, values in record.metrics.items():
            metrics |= {
                f"{part}/{self._slugs[target]}/{name}": value for name, value in values.items()
            }
        return metrics | {
            f"{part}/{self._slugs[target]}/skill": skill for target, skill in record.skills.items()
        }

    def _curve(self, record: TrialRecord) -> list[tuple[str, float | None, int]]:
        return [
            (f"curve/{self._slugs[target]}", skill, epoch)
            for epoch, skills in enumerate(record.curve, start=1)
            for target, skill in skills.items()
        ]

    def _batch(
        self,
        run_id: str,
        metrics: Mapping[str, float | None],
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        curve: Iterable[tuple[str, float | None, int]] = (),
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [(name, value, 0) for name, value in metrics.items()] + list(curve)
        entries = [
            Metric(n, float(v), now, step)
            for n, v, step in points
            if v is not None and math.isfinite(v)
        ]
        texts = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in (params or {}).items()
        }
        kept = [Param(name, text) for name, text in texts.items() if len(text) <= _LONGEST][:100]
        marks = [RunTag(name, value) for name, value in (tags or {}).items()]
        self._client.log_batch(run_id, entries[:_BATCH], kept, marks)
        for start in range(_BATCH, len(entries), _BATCH):
            self._client.log_batch(run_id, entries[start : start + _BATCH])


def refit_record(final: FinalRecord) -> TrialRecord:
    """The refit of a study's choice as a record: its skills, gains and metrics are those on test rows."""
    return TrialRecord(
        number=0,
        kind="refit",
        name="refit",
        grouping=final.grouping,
        objective=final.test_value.mean,
        skills={target: metrics.get("skill") for target, metrics in final.test.items()},
        gains={
            target: metrics["gain"] for target, metrics in final.test.items() if "gain" in metrics
        },
        settings={},
        state="COMPLETE",
        fail_kind=None,
        fail_reason=None,
        keys=(),
        n_cached=0,
        seconds=0.0,
        metrics=final.test,
        time=final.time,
    )


def _flat(config: Mapping[str, Any], prefix: str = "study") -> dict[str, Any]:
    """Nested settings as ``study/search/n_trials``; the search space is left to ``study.json``."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {} if name == "space" else _flat(value, f"{prefix}/{name}")
        else:
            found[f"{prefix}/{name}"] = value
    return found
