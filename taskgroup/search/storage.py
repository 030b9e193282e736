"""The Optuna storage of a study: opening it, baselines in its queue, and trials that a kill left running.

An Optuna trial is closed as COMPLETE, PRUNED (groups of it were stopped early) or FAIL. FAIL is told apart by user
attributes: ``repeats`` (it proposed what an earlier trial had trained), ``interrupted`` (by a kill; its retry has
``retry_of``) and ``withdrawn`` (another process took the last place in the budget). None of these three counts as a
trial of the study. Any other FAIL is a training that failed, with a record of its own.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import (
    ExperimentalWarning,
    StorageInternalError,
    UpdateFinishedTrialError,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from taskgroup.errors import ConfigError, RunError, TaskgroupError
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.grouping.cluster import CLUSTERERS
from taskgroup.search.patient_storage import REQUEST, PatientStorage
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.objective import ObjectiveConfig
from taskgroup.spec.sections import JOURNAL
from taskgroup.spec.space import Space
from taskgroup.tracking import FinalRecord, TrialRecord
from taskgroup.urls import database_url, redact, resolve, sqlite_url

_SQLITE_WAIT = 60  # seconds to wait while another process writes to the file
_CONNECT_SECONDS = 10  # seconds in which a database server must answer
_FULL_DISK = ("disk is full", "disk I/O error")  # SQLite's words, also for a quota
# Epochs of a trial whose values a storage keeps: each is a transaction of its own.
_MOST_EPOCHS = 12
# Attributes by which trials are told apart.
REPEATS = "repeats"
CHOSEN = "chosen"
_COPIED = ("name", "kind", "plan")  # to the retry of an interrupted trial
_METRIC = "mean skill"
_PACKAGE_OF_MODULE = {
    "psycopg": "taskgroup-materials[postgresql]",  # brings psycopg[binary]
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL",
}


def searched_space(config: StudyConfig) -> Space:
    """Return the space of a study with the clustering methods its baselines need."""
    methods = [name for name in config.search.baselines if name in CLUSTERERS]
    return config.space.with_methods(tuple(methods))


def open_storage(config: StudyConfig, folder: Path) -> BaseStorage:
    """Open the Optuna storage of a study: SQLite in the run folder, ``journal:PATH``, or a database URL.

    Raises ConfigError: the URL is none, its driver is not installed, or the database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = sqlite_url(folder.resolve() / "optuna.db")
    if config.storage is not None:
        url = resolve("storage", config.storage)
    if url.startswith(JOURNAL):
        return _open_journal(Path(url.removeprefix(JOURNAL)))
    database = _open_database(database_url("storage", url))
    # get_storage adds Optuna's cache of finished trials.
    cached = optuna.storages.get_storage(database)
    wait = config.search.storage_wait
    return PatientStorage(cached, redact(url), wait, database.engine.dispose)


def _open_journal(path: Path) -> BaseStorage:
    try:
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        return optuna.storages.JournalStorage(backend)
    except OSError as error:
        raise ConfigError(f"storage: cannot use '{JOURNAL}{path}': {error}") from None


def _open_database(url: str) -> BaseStorage:
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 2}
    if url.startswith(("postgresql://", "postgresql+psycopg")):
        # A server that does not answer at all is away; by default the system would wait for it for minutes.
        options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": _SQLITE_WAIT}}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise ConfigError(f"storage: '{redact(url)}' {_missing_driver(error)}") from None
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, ValueError) as error:
        reason = redact(str(error).splitlines()[0])
        hint = ""
        if any(words in reason for words in _FULL_DISK):
            raise TaskgroupError(f"storage: cannot write '{redact(url)}': {reason}") from None
        if url.startswith("sqlite"):
            hint = "; mend a damaged file with 'taskgroup doctor RUN --repair'"
        raise ConfigError(f"storage: cannot use '{redact(url)}': {reason}{hint}") from None


def _missing_driver(error: Exception) -> str:
    """Return the end of a message that names the Python package a database URL needs."""
    if not isinstance(error, ImportError):
        return f"names a database that is not known: {error}"
    # Optuna raises an ImportError of its own; the module that is missing stands in its cause.
    cause = error.__cause__ or error
    module = getattr(cause, "name", None) or "driver"
    package = _PACKAGE_OF_MODULE.get(module, module)
    return f"needs the Python package {module}, which is not installed: pip install '{package}'"


class TrialStorage:
    """The trials of one study in its Optuna storage.

    ``study`` is the plain Optuna study. It neither proposes nor prunes: OptunaTrials and GroupPruner do.

    What a finished trial holds (attributes, values by epoch) takes many transactions, so a thread of its own writes it
    while the next trial trains. Whoever reads the trials waits for it. What a kill loses is written by the next run:
    the trial then still counts as running.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        objective: ObjectiveConfig | None = None,
    ) -> None:
        self.study = study
        self._storage = storage
        self._objective = objective or ObjectiveConfig()
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._writer = ThreadPoolExecutor(1)
        self._written: list[Future] = []

    @classmethod
    def open(cls, config: StudyConfig, folder: Path) -> "TrialStorage":
        """Create or load the Optuna study of a run. Raises ConfigError: see ``open_storage``."""
        storage = open_storage(config, folder)
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(seed=config.search.seed),
            pruner=optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )
        if study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names([_METRIC])
        return cls(study, storage, config.objective)

    def disconnect(self) -> None:
        """Close the connections to the database; the next call opens new ones."""
        self.flush()
        if isinstance(self._storage, PatientStorage):
            self._storage.disconnect()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in any of these states, by number; all trials if none is given."""
        self.flush()
        return self.study.get_trials(deepcopy=False, states=states or None)

    def add_running(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> int:
        """Add a trial that begins now and return its number.

        ``Study.add_trial`` would do, but does not say which number the trial got.
        """
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={**attributes, REQUEST: uuid4().hex},
        )
        trial_id = self._storage.create_new_trial(self._study_id, trial)
        return self._storage.get_trial_number_from_id(trial_id)

    def flush(self) -> None:
        """Wait until all that was closed is written; raise the first error of that."""
        written, self._written = self._written, []
        for future in written:
            future.result()

    def _write_later(self, call: Callable[[], None]) -> None:
        failed = [future for future in self._written if future.done() and future.exception()]
        if failed:
            self.flush()
        self._written = [future for future in self._written if not future.done()]
        self._written.append(self._writer.submit(call))

    def close(
        self,
        number: int,
        state: TrialState,
        value: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        values_by_epoch: Mapping[int, float] | None = None,
    ) -> None:
        """Close a running trial. One that another process has closed, taking this one for dead, stays as it is.

        ``Study.tell`` reads the trial back first, and so takes twice as long.
        """

        def write() -> None:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            values = None if value is None else [value]
            with contextlib.suppress(UpdateFinishedTrialError):
                for name, content in (attributes or {}).items():
                    self._storage.set_trial_user_attr(trial_id, name, content)
                for epoch, reached in (values_by_epoch or {}).items():
                    self._storage.set_trial_intermediate_value(trial_id, epoch, reached)
                self._storage.set_trial_state_values(trial_id, state, values)

        self._write_later(write)

    def close_as_recorded(self, record: TrialRecord) -> None:
        """Close a running trial as its record says, with what it gave as attributes."""
        self.close(
            record.number,
            TrialState[record.state],
            record.objective,
            _attributes(record),
            epoch_values(record, self._objective),
        )

    def add_chosen(self, params: Mapping[str, Any], space: Space, final: FinalRecord) -> None:
        """Add the choice of a study as a trial of these parameters, with the attribute ``chosen``; once.

        A finished trial cannot be marked, and most choices are assembled out of several trials.
        """
        if any(trial.user_attrs.get(CHOSEN) for trial in self.trials()):
            return
        point = optuna.trial.FixedTrial(dict(params))
        space.suggest(point)
        attributes = {
            CHOSEN: True,
            "kind": CHOSEN,
            "name": final.name,
            "grouping": str(final.grouping),
            "gains": {target: gain.mean for target, gain in final.gains.items()},
            "test": final.test_value.mean,
        }
        self.study.add_trial(
            create_trial(
                value=final.reevaluation.mean,
                params=point.params,
                distributions=point.distributions,
                user_attrs=attributes,
            )
        )

    def refuse_another_run(self, folder: Path) -> None:
        """Raise RunError where the storage holds trials of a study that a new run in ``folder`` has not made."""
        begun = [trial for trial in self.trials() if trial.state != TrialState.WAITING]
        if begun and not (folder / "study.json").exists():
            raise RunError(
                f"storage: it holds {len(begun)} trials of a study '{self.study.study_name}' that another run than "
                f"{folder} began; go on with that one ('taskgroup resume'), or choose another name with --set name=..."
            )

    def restore(self, records: Sequence[TrialRecord]) -> int:
        """Add the recorded trials to a storage that was lost, under their numbers; return how many were added.

        Their parameters are lost with the storage: the sampler begins anew, and what was trained is not trained again.
        """
        recorded = {record.number: record for record in records if record.is_trial}
        if not recorded or self.trials():
            return 0
        # Numbers follow each other in a storage: those of trials that were withdrawn get a place, too.
        for number in range(max(recorded) + 1):
            record = recorded.get(number)
            attributes: dict[str, Any] = {
                "restored": True,
                **(_attributes(record) if record else {}),
            }
            if record is None:
                self.study.add_trial(
                    create_trial(
                        state=TrialState.FAIL, user_attrs=attributes | {"interrupted": True}
                    )
                )
                continue
            if record.kind == "baseline":
                attributes |= {"name": record.name, "kind": record.kind}
            state = TrialState[record.state]
            value = record.objective if state == TrialState.COMPLETE else None
            self.study.add_trial(create_trial(state=state, value=value, user_attrs=attributes))
        return len(recorded)

    def enqueue_baselines(self, config: StudyConfig) -> None:
        """Queue the baselines, with the default settings of the space; those already there stay."""
        space = searched_space(config)
        present = {trial.user_attrs.get("name") for trial in self.trials()}
        for name in config.search.baselines:
            if name in present:
                continue
            settings = space.baseline()
            # The correlation baseline has no method of its own: it clusters by the space's default.
            if name in CLUSTERERS:
                settings["grouping"]["method"] = name
            attributes = {"name": name, "kind": "baseline"}
            self.study.enqueue_trial(space.encode(settings), user_attrs=attributes)

    def settle_interrupted(self, records: Sequence[TrialRecord], peers: Heartbeat) -> int:
        """Close trials whose process is gone: as their record says if there is one, else queue them again.

        Returns the number of trials that were queued.
        """
        record_of = {record.number: record for record in records if record.is_trial}
        retried = {trial.user_attrs.get("retry_of") for trial in self.trials()}
        n_queued = 0
        for trial in self.trials(TrialState.RUNNING):
            if peers.lives(trial.user_attrs.get("owner", "")):
                continue
            if trial.number in record_of:
                self.close_as_recorded(record_of[trial.number])
                continue
            # Queued first and closed then: in between, the budget counts one trial too many, never one too few.
            if trial.number not in retried:
                self._queue_again(trial)
                n_queued += 1
            self.close(trial.number, TrialState.FAIL, attributes={"interrupted": True})
        return n_queued

    def _queue_again(self, trial: FrozenTrial) -> None:
        attributes: dict[str, Any] = {"retry_of": trial.number}
        for name in _COPIED:
            if name in trial.user_attrs:
                attributes[name] = trial.user_attrs[name]
        self.study.enqueue_trial(trial.params, user_attrs=attributes)


def epoch_values(record: TrialRecord, objective: ObjectiveConfig) -> dict[int, float]:
    """Return the value of a trial after some of its epochs, the last one among them."""
    n_epochs = len(record.curve)
    step = max(1, -(-n_epochs // _MOST_EPOCHS))
    values = {}
    for epoch in range(n_epochs, 0, -step):
        reached = objective.skill(record.curve[epoch - 1])
        if math.isfinite(reached):
            values[epoch] = reached
    return dict(sorted(values.items()))


def _attributes(record: TrialRecord) -> dict[str, Any]:
    """Return what a trial gave, for whoever looks at the Optuna study."""
    if record.state == "FAIL":
        return {"fail_kind": record.fail_kind, "fail_reason": record.fail_reason}
    cost = {"seconds": record.seconds, "networks": len(record.grouping), "cached": record.n_cached}
    return {
        "grouping": str(record.grouping),
        "skills": dict(record.skills),
        "gains": dict(record.gains),
        "cost": cost,
    }
