"""A study in MLflow: the study is a parent run, every record of ``trials.jsonl`` a child run.

- The run folder is the truth and is written first; MLflow is a copy. A call that fails is logged as a warning and made
  up for by ``sync``, which replays what MLflow does not have yet. So a resumed study logs nothing twice, and a tracking
  server that is away costs a trial nothing.
- Run ids are explicit and a trial is one batch. The parent process alone writes, and creates the database.
- Runs have the names of the leaderboard, and the times at which their trials ran.
- Target names become slugs, since MLflow refuses names such as ``E (eV)``; ``labels.json`` of the parent has them.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.errors import RunError
from taskgroup.tracking.leaderboard import leaderboard, with_gains
from taskgroup.tracking.mlflow_client import (
    child_runs,
    connect,
    create_database,
    default_uri,
    is_server,
    record_key,
    slugs,
    tracking_uri,
)
from taskgroup.tracking.mlflow_final import log_result
from taskgroup.tracking.mlflow_model import SaveModel, log_model, model_of_run, register_model
from taskgroup.tracking.mlflow_parent import (
    ParentRun,
    ParentSettings,
    create_parent,
    log_dataset,
    remembered_parent,
    source_tags,
    without_passwords,
)
from taskgroup.tracking.mlflow_run import (
    STATUS_BY_STATE,
    RunContent,
    times_of,
    trial_content,
    trial_tags,
)
from taskgroup.tracking.mlflow_transfer import transfer_metrics
from taskgroup.tracking.moved import ARTIFACTS, follow_move
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.run_folder import read_final, read_records, read_study
from taskgroup.urls import redact, resolve

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)

# Seconds without a new attempt after a failure.
_PAUSE = 60.0

# Characters of an error that a warning shows.
_LONGEST_REASON = 200

# States of a run that was logged whole; KILLED is that of pruned trials in older versions.
_COMPLETE_STATUS = {*STATUS_BY_STATE.values(), "KILLED"}


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
        self.uri = default_uri(run_dir) if uri is None else resolve("tracking.uri", uri)
        self._study = read_study(run_dir)
        self.experiment = experiment or f"taskgroup/{self._study.dataset['name']}"
        if artifact_location is None and not is_server(self.uri):
            artifact_location = (self.run_dir.resolve() / ARTIFACTS).as_uri()
        self._slugs = slugs(self._study.targets)
        self._settings = ParentSettings(
            run_name or self._study.name, self.experiment, artifact_location, self._slugs
        )
        self._client: MlflowClient | None = None
        self._parent: ParentRun | None = None
        self._run_ids: dict[tuple[str, int], str] = {}
        self._best = -math.inf
        self._paused_until = 0.0
        self._may_be_half_logged = False
        self.n_mended = 0
        """Number of runs that a killed process or server had left half-written, and that were removed."""

    @classmethod
    def of_run(cls, run_dir: str | Path) -> "Tracker":
        """Return the tracker that the study of a run folder itself used."""
        study = read_study(run_dir)
        settings = study.config.get("tracking") or {}
        uri = tracking_uri(run_dir)
        return cls(run_dir, study.name, experiment=settings.get("experiment"), uri=uri)

    @property
    def is_behind(self) -> bool:
        """Whether MLflow may lack something: the last call to it failed."""
        return self._may_be_half_logged

    @property
    def n_logged(self) -> int:
        """Number of records that MLflow has."""
        return len(self._run_ids)

    @property
    def parent_run_id(self) -> str:
        """The run of the study in MLflow; empty while no call has reached the server."""
        return "" if self._parent is None else self._parent.run_id

    def sync(self, records: Iterable[TrialRecord] | None = None) -> None:
        """Log every record that MLflow does not have yet; default: those of ``trials.jsonl``."""
        self._paused_until = 0.0
        self._safely(lambda: None)
        if records is None:
            records = read_records(self.run_dir)
        for record in records:
            self.log_trial(record)

    def log_trial(self, record: TrialRecord) -> None:
        """Log one record as a child run, unless it is there already."""
        if (record.kind, record.number) not in self._run_ids:
            self._safely(lambda: self._log_record(record))

    def log_final(self, final: FinalRecord) -> None:
        """Log the result of the study: on the run of the choice and on that of the study, with the verdict."""
        self._safely(lambda: self._log_final(final))

    def log_model(self, save: SaveModel) -> None:
        """Log the model of the choice on its run, once; ``save`` writes it to a folder."""
        self._safely(lambda: self._log_model(save))

    def register_model(self, name: str, description: str) -> int:
        """Register the model of the choice and return its version. Raises RunError: MLflow lacks it."""
        run_id = self.chosen_run_id
        model_id = None if run_id is None else model_of_run(self._client, run_id)
        if model_id is None:
            raise RunError(
                f"{self.run_dir}: MLflow at {redact(self.uri)} has no model of this run; "
                f"bring it up to date with: taskgroup sync {self.run_dir}"
            )
        return register_model(self._client, name, run_id, model_id, description)

    def log_transfer(self) -> None:
        """Log who helped whom, and which measure predicted it, as metrics of the study."""
        metrics = transfer_metrics(self.run_dir, self._slugs)
        self._safely(lambda: RunContent(metrics).log(self._client, self.parent_run_id))

    @property
    def chosen_run_id(self) -> str | None:
        """The run of the choice; None before the end of the study, or while no call has reached the server."""
        final = read_final(self.run_dir)
        if final is None:
            return None
        return self._run_id_by_name(read_records(self.run_dir)).get(final.name)

    def log_artifacts(self, *paths: str | Path) -> None:
        """Log files or folders (figures, matrices, the report) on the parent run."""

        def log() -> None:
            for path in map(Path, paths):
                if path.is_dir():
                    self._client.log_artifacts(self.parent_run_id, str(path), path.name)
                else:
                    self._client.log_artifact(self.parent_run_id, str(path))

        self._safely(log)

    def close(self, state: str = "finished") -> None:
        """Log what is missing and the leaderboard, and end the parent run; ``state`` as in StudyRecord."""
        self.sync()
        self._safely(lambda: self._end(state))

    def _safely(self, call: Callable[[], Any]) -> None:
        """Run a call to MLflow; a failure is a warning and a pause, never an error."""
        if time.monotonic() < self._paused_until:
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._parent is None:
                self._open()
            elif self._may_be_half_logged:
                self._find_logged(self._parent)
            self._may_be_half_logged = False
            call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._paused_until = time.monotonic() + _PAUSE
            # The server may have taken the beginning of a run, whose rest it will never get.
            self._may_be_half_logged = True
            reason = redact(str(error)).splitlines()[0][:_LONGEST_REASON]
            _log.warning(
                "MLflow at %s did not take a record, it will be sent again later: %s",
                redact(self.uri),
                reason,
            )

    def _open(self) -> None:
        """Find or make the parent run, and see which records it has."""
        if self.uri == default_uri(self.run_dir):
            create_database(self.run_dir / "mlflow.db")
            follow_move(self.run_dir)
        self._client = connect(self.uri)
        parent = remembered_parent(self._client, self.run_dir, self.uri)
        if parent is None:
            parent = create_parent(
                self._client, self.run_dir, self.uri, self._study, self._settings
            )
        self._find_logged(parent)
        self._parent = parent

    def _find_logged(self, parent: ParentRun) -> None:
        """Remember the child runs that are complete; half-logged ones (a kill) are deleted and logged again."""
        self._run_ids.clear()
        for run in child_runs(self._client, parent.experiment_id, parent.run_id):
            key = record_key(run.data.tags)
            is_second = key in self._run_ids
            if run.info.status in _COMPLETE_STATUS and not is_second:
                self._run_ids[key] = run.info.run_id
                self._best = max(self._best, run.data.metrics.get("objective", -math.inf))
            else:
                self._client.delete_run(run.info.run_id)
                self.n_mended += 1

    def _log_record(self, record: TrialRecord) -> str:
        """Log one record and return its run, which may be there: an answer of the server may have been lost."""
        existing = self._run_ids.get((record.kind, record.number))
        if existing is not None:
            return existing
        record = self._with_gains(record)
        start, end = times_of(record)
        tags = trial_tags(record) | source_tags(self._study)
        run = self._client.create_run(
            self._parent.experiment_id,
            start_time=start,
            run_name=record.name,
            tags=tags | {"mlflow.parentRunId": self._parent.run_id},
        )
        run_id = run.info.run_id
        trial_content(record, self._slugs).log(self._client, run_id)
        log_dataset(self._client, run_id, self._study)
        self._client.log_dict(run_id, without_passwords(record.to_dict()), "record.json")
        self._log_best(record)
        # The status comes last: by it a half-logged run is known.
        self._client.set_terminated(run_id, STATUS_BY_STATE[record.state], end)
        self._run_ids[record.kind, record.number] = run_id
        return run_id

    def _with_gains(self, record: TrialRecord) -> TrialRecord:
        """Return the record with its gains; those of an assembled grouping are known from other records."""
        if record.gains or record.is_trial:
            return record
        return with_gains([*read_records(self.run_dir), record])[-1]

    def _log_best(self, record: TrialRecord) -> None:
        """Log the best validation value so far on the parent; test values do not compete with it."""
        if record.kind == "refit" or record.objective is None or record.objective <= self._best:
            return
        self._best = record.objective
        step = len(self._run_ids)
        self._client.log_metric(self._parent.run_id, "best/objective", self._best, step=step)

    def _log_final(self, final: FinalRecord) -> None:
        records = with_gains(read_records(self.run_dir))
        log_result(
            self._client,
            self._parent,
            self._run_id_by_name(records),
            records,
            final,
            self._study,
            self._slugs,
        )

    def _run_id_by_name(self, records: Iterable[TrialRecord]) -> dict[str, str]:
        """Return the runs of the records that MLflow has."""
        run_ids = {}
        for record in records:
            run_id = self._run_ids.get((record.kind, record.number))
            if run_id is not None:
                run_ids[record.name] = run_id
        return run_ids

    def _log_model(self, save: SaveModel) -> None:
        if self.chosen_run_id is not None:
            log_model(self._client, self.chosen_run_id, save)

    def _end(self, state: str) -> None:
        run_id = self._parent.run_id
        rows = leaderboard(read_records(self.run_dir), final=read_final(self.run_dir))
        self._client.log_dict(run_id, {"rows": rows}, "leaderboard.json")
        self._client.set_tag(run_id, "state", state)
        status = "FINISHED" if state == "finished" else "KILLED"
        self._client.set_terminated(run_id, status)
