"""An Optuna storage that waits for its database: one that restarts or is locked for a while costs a search nothing.

Every call is tried again, with growing pauses, as long as the database is away. Repeating a call does no harm even
where the first attempt had reached the database before the connection broke: values and attributes are set to the same
again, closing a closed trial is refused by Optuna, and a new trial is looked for by its attribute ``request``.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from taskgroup.errors import TaskgroupError
from taskgroup.urls import redact

_log = logging.getLogger(__name__)

# Name of the attribute by which a new trial is known, if the answer to its creation was lost.
REQUEST = "request"

# Seconds between two attempts: short first, since most locks are; then so that many processes do not crowd a server.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0
# Characters of an error that a message shows.
_LONGEST_REASON = 200

# What the drivers raise when the server or the connection is gone, or all connections are taken.
_AWAY = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,
)


def _patient(name: str) -> Callable[..., Any]:
    """Return the method of a storage that calls the same method of the storage inside until it is answered."""

    def call(self: "PatientStorage", *arguments: Any, **options: Any) -> Any:
        method = getattr(self.inside, name)
        return self.patiently(lambda: method(*arguments, **options))

    # Not functools.wraps, which would also make the method abstract.
    call.__name__ = name
    call.__doc__ = getattr(BaseStorage, name).__doc__
    return call


class PatientStorage(BaseStorage):
    """Waits for the database of another storage.

    Parameters
    ----------
    inside: the storage that does the work.
    name: of the database, for messages; without a password.
    wait: seconds that a database may be away; None: no limit.
    disconnect: closes the connections to the database.
    """

    def __init__(
        self,
        inside: BaseStorage,
        name: str,
        wait: float | None,
        disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        self.inside = inside
        self._name = name
        self._wait = wait
        self.disconnect = disconnect

    def patiently(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns, once the database answers.

        Raises TaskgroupError: it is away for too long, or cannot do what it was asked for, such as on a full disk.
        """
        pause = _FIRST_PAUSE
        away_since = None
        while True:
            try:
                answer = call()
            except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
                now = time.monotonic()
                if away_since is None:
                    away_since = now
                    self._tell_waiting(error)
                if not _is_away(error):
                    raise TaskgroupError(f"storage {self._name}: {_reason(error)}") from error
                if self._wait is not None and now - away_since >= self._wait:
                    raise TaskgroupError(
                        f"storage {self._name}: away for {now - away_since:.0f} s, longer than "
                        f"search.storage_wait: {_reason(error)}; go on with 'taskgroup resume' when it is back"
                    ) from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if away_since is not None:
                seconds = time.monotonic() - away_since
                _log.warning("storage %s: back after %.0f s", self._name, seconds)
            return answer

    def _tell_waiting(self, error: Exception) -> None:
        if _is_away(error):
            limit = "" if self._wait is None else f" up to {self._wait:g} s"
            _log.warning("storage %s: away, waiting%s: %s", self._name, limit, _reason(error))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial and return its id; one that an attempt without an answer has created is not made twice."""
        attempts = 0

        def create() -> int:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                created = self._created(study_id, template_trial)
                if created is not None:
                    return created
            return self.inside.create_new_trial(study_id, template_trial)

        return self.patiently(create)

    def _created(self, study_id: int, template: FrozenTrial | None) -> int | None:
        """Return the id of the trial that an earlier attempt has made of a template; None where there is none."""
        request = None if template is None else template.user_attrs.get(REQUEST)
        if request is None:
            return None
        for trial in self.inside.get_all_trials(study_id, deepcopy=False):
            if trial.user_attrs.get(REQUEST) == request:
                return self.inside.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        return None

    create_new_study = _patient("create_new_study")
    delete_study = _patient("delete_study")
    set_study_user_attr = _patient("set_study_user_attr")
    set_study_system_attr = _patient("set_study_system_attr")
    get_study_id_from_name = _patient("get_study_id_from_name")
    get_study_name_from_id = _patient("get_study_name_from_id")
    get_study_directions = _patient("get_study_directions")
    get_study_user_attrs = _patient("get_study_user_attrs")
    get_study_system_attrs = _patient("get_study_system_attrs")
    get_all_studies = _patient("get_all_studies")
    set_trial_param = _patient("set_trial_param")
    get_trial_id_from_study_id_trial_number = _patient("get_trial_id_from_study_id_trial_number")
    get_trial_number_from_id = _patient("get_trial_number_from_id")
    get_trial_param = _patient("get_trial_param")
    set_trial_state_values = _patient("set_trial_state_values")
    set_trial_intermediate_value = _patient("set_trial_intermediate_value")
    set_trial_user_attr = _patient("set_trial_user_attr")
    set_trial_system_attr = _patient("set_trial_system_attr")
    get_trial = _patient("get_trial")
    get_all_trials = _patient("get_all_trials")
    get_n_trials = _patient("get_n_trials")
    get_best_trial = _patient("get_best_trial")
    remove_session = _patient("remove_session")


def _is_away(error: Exception) -> bool:
    """Return whether an error says that the database cannot be reached now, or is locked."""
    fault = _database_error(error)
    if not isinstance(fault, _AWAY):
        return isinstance(fault, sqlalchemy.exc.DBAPIError) and fault.connection_invalidated
    text = str(fault)
    # SQLite reports a full disk or a read-only file by the same class as a lock.
    return "sqlite3" not in text or "locked" in text or "busy" in text


def _database_error(error: Exception) -> Exception:
    """Return the database's error; Optuna hides it behind one of its own."""
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def _reason(error: Exception) -> str:
    """Return the first line of an error, without passwords."""
    lines = str(_database_error(error)).strip().splitlines() or [type(error).__name__]
    return redact(lines[0])[:_LONGEST_REASON]
