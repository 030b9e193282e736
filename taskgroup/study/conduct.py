"""Conducting a study from its first trial to its bundle, and joining one that another process conducts.

Everything lies in one run folder. Each step looks first for what is already there, so resuming a run is running it
again.
"""

import importlib.metadata
import logging
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskgroup import __version__
from taskgroup.files import held_lock
from taskgroup.search.chosen import mark_chosen
from taskgroup.search.optuna_trials import Optimisers
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import StudyData
from taskgroup.study.finalise import Finaliser
from taskgroup.study.publish import publish
from taskgroup.study.session import SearchSession
from taskgroup.study.transfer import run_transfer
from taskgroup.tracking import (
    BackgroundQueue,
    FinalRecord,
    StudyRecord,
    Tracker,
    TrialRecord,
    append_record,
    read_records,
    write_study,
)
from taskgroup.tracking.mlflow_client import uri_of_study
from taskgroup.tracking.report import write_report
from taskgroup.tracking.transfer_report import write_transfer
from taskgroup.urls import redact

_log = logging.getLogger(__name__)

# Packages whose version may change a result.
_PACKAGES = ("torch", "optuna", "mlflow", "scikit-learn", "scipy", "networkx", "pymatgen", "numpy")


@dataclass(frozen=True)
class StudyHooks:
    """Callbacks of a running study; all do nothing by default.

    ``on_phase`` gets the name of every phase and the number of things in it, ``on_record`` the record of every
    finished trial.
    """

    on_phase: Callable[[str, int], None] = field(default=lambda phase, total: None)
    on_record: Callable[[TrialRecord], None] = field(default=lambda record: None)


def conduct(
    config: StudyConfig, folder: Path, hooks: StudyHooks, optimisers: Optimisers | None = None
) -> None:
    """Run a study to its end, from wherever an earlier attempt has left it."""
    data = StudyData(config)
    busy = f"{folder}: another process is working on this run; wait for it or stop it first"
    with (
        held_lock(folder / "lock", busy),
        SearchSession.open(config, folder, data, optimisers=optimisers) as session,
    ):
        session.storage.refuse_another_run(folder)
        n_restored = 0
        if (folder / "study.json").exists():
            n_restored = session.storage.restore(read_records(folder))
        if n_restored:
            _log.warning(
                "%s: its Optuna storage was lost; %d trials were restored", folder, n_restored
            )
        session.storage.enqueue_baselines(config)
        # From here on other processes may join.
        write_study(folder, study_record(config, data, "running"))
        session.store.recover(session.peers.lives)
        state = "interrupted"
        tracker = _tracker(config, folder, data)
        background = BackgroundQueue()
        try:
            background.call(tracker.sync, read_records(folder))

            def on_record(record: TrialRecord) -> None:
                append_record(folder, record)
                background.call(tracker.log_trial, record)
                hooks.on_record(record)

            _search(session, on_record, hooks)
            background.call(tracker.sync, read_records(folder))
            final = _finalise(session, on_record, hooks)
            background.wait()
            tracker.log_final(final)
            mark_chosen(session.storage, config, final)
            _explain(session, final, hooks)
            # The report shows the state.
            write_study(folder, study_record(config, data, "finished"))
            write_report(folder, folder / "report.html")
            publish(folder, tracker)
            state = "finished"
            # Only trainings that timed out or failed have left any, and nobody will go on with them.
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        finally:
            write_study(folder, study_record(config, data, state))
            background.close()
            tracker.close(state)


def join(
    config: StudyConfig, folder: Path, hooks: StudyHooks, optimisers: Optimisers | None = None
) -> int:
    """Run trials of a study that another process conducts until none is left; return how many were run here."""
    data = StudyData(config)
    with SearchSession.open(config, folder, data, joins=True, optimisers=optimisers) as session:
        n_run = 0

        def on_record(record: TrialRecord) -> None:
            nonlocal n_run
            append_record(folder, record, session.peers.writer)
            n_run += 1
            hooks.on_record(record)

        hooks.on_phase("search", config.search.n_trials)
        loop = session.loop(on_record, read_records(folder))
        loop.run(config.search.n_trials, config.search.time_limit)
        return n_run


def _search(
    session: SearchSession, on_record: Callable[[TrialRecord], None], hooks: StudyHooks
) -> None:
    """Run trials here, and see to those of other processes until all have ended."""
    search = session.config.search
    start = time.monotonic()
    session.storage.settle_interrupted(read_records(session.folder), session.peers)
    hooks.on_phase("search", search.n_trials)
    loop = session.loop(on_record, read_records(session.folder))
    while True:
        loop.run(search.n_trials, _remaining(search.time_limit, start))
        n_trials = loop.wait()
        # Networks and trials of processes that were killed meanwhile; the trials wait in the queue now.
        session.store.recover(session.peers.lives)
        n_queued = session.storage.settle_interrupted(read_records(session.folder), session.peers)
        is_over = _remaining(search.time_limit, start) == 0
        if is_over or (n_trials >= search.n_trials and not n_queued):
            return


def _remaining(time_limit: float | None, start: float) -> float | None:
    """Return the seconds that are left; None where there is no limit."""
    if time_limit is None:
        return None
    return max(0.0, time_limit - (time.monotonic() - start))


def _finalise(
    session: SearchSession, on_record: Callable[[TrialRecord], None], hooks: StudyHooks
) -> FinalRecord:
    finaliser = Finaliser(
        session.config,
        session.folder,
        session.data,
        session.store,
        session.evaluators[0],
        on_record,
        hooks.on_phase,
    )
    return finaliser.run(read_records(session.folder))


def _explain(session: SearchSession, final: FinalRecord, hooks: StudyHooks) -> None:
    """Write which target helped which into the run folder."""
    folder = session.folder
    if not (folder / "transfer").exists():
        hooks.on_phase("explain", 0)
        report = run_transfer(folder, session.data, session.store, final)
        write_transfer(report, folder / "transfer")


def _tracker(config: StudyConfig, folder: Path, data: StudyData) -> Tracker:
    experiment = config.tracking.experiment or f"taskgroup/{data.dataset.name}"
    uri = uri_of_study(folder, config.tracking.uri)
    return Tracker(folder, config.name, experiment=experiment, uri=uri)


def study_record(config: StudyConfig, data: StudyData, state: str) -> StudyRecord:
    """Return what ``study.json`` holds: the study as it was given, its data and the versions it runs with."""
    dataset = data.dataset
    versions = {"taskgroup": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    targets = {}
    for spec in data.targets.specs:
        targets[spec.name] = {"kind": spec.kind, "unit": spec.unit, "transform": spec.transform}
    return StudyRecord(
        name=config.name,
        config=_stored_config(config),
        dataset={"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        split_id=data.splits.id,
        targets=targets,
        versions=versions,
        state=state,
    )


def _stored_config(config: StudyConfig) -> dict[str, Any]:
    """Return the configuration without the passwords in its URLs: run folders are copied and shown."""
    content = config.model_dump(mode="json", exclude_unset=True)
    if content.get("storage"):
        content["storage"] = redact(content["storage"])
    if content.get("tracking", {}).get("uri"):
        content["tracking"]["uri"] = redact(content["tracking"]["uri"])
    return content
