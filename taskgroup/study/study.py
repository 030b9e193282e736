"""The life of a study: search, assemble, train the best again, choose, test once, export.

Everything lies in one run folder. Each step looks first for what is already there, so ``resume`` is ``run`` again.
"""

import contextlib
import fcntl
import importlib.metadata
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup import __version__
from taskgroup.errors import RunError
from taskgroup.execution import make_executor
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.execution.results import ResultStore
from taskgroup.machine import available_cores
from taskgroup.search.affinities import Affinities
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.loop import (
    SearchLoop,
    enqueue_baselines,
    open_optuna,
    open_storage,
    refuse_another,
    searched_space,
    settle_interrupted,
)
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.study.finalise import Finaliser
from taskgroup.study.transfer import run_transfer
from taskgroup.tracking import (
    BackgroundQueue,
    FinalRecord,
    StudyRecord,
    Tracker,
    TrialRecord,
    append_record,
    find_run,
    leaderboard_frame,
    read_final,
    read_records,
    read_study,
    runs_folder,
    write_study,
)
from taskgroup.tracking.report import write_report
from taskgroup.tracking.transfer_report import write_transfer

if TYPE_CHECKING:
    import optuna
    import pandas as pd

_log = logging.getLogger(__name__)
_PACKAGES = ("torch", "optuna", "mlflow", "scikit-learn", "scipy", "networkx", "pymatgen", "numpy")


@dataclass(frozen=True)
class StudyHooks:
    """What a study tells while it runs; all no-ops by default."""

    on_phase: Callable[[str, int], None] = field(default=lambda phase, total: None)
    on_record: Callable[[TrialRecord], None] = field(default=lambda record: None)


class Study:
    """One search, its run folder and its results.

    >>> import taskgroup as tg
    >>> study = tg.Study.from_yaml("studies/quickstart.yaml")  # doctest: +SKIP
    >>> study.run().leaderboard()  # doctest: +SKIP
    """

    def __init__(self, config: StudyConfig, folder: str | Path | None = None) -> None:
        self.config = config
        self.folder = Path(folder) if folder else runs_folder() / config.name

    @classmethod
    def from_yaml(
        cls, path: str | Path, overrides: tuple[str, ...] = (), folder: str | Path | None = None
    ) -> "Study":
        """A study from a file; ``overrides`` are like ``search.n_trials=50``."""
        return cls(load_study(path, overrides), folder)

    @classmethod
    def open(cls, folder: str | Path, overrides: tuple[str, ...] = ()) -> "Study":
        """The study of a run folder. Raises RunError if there is none."""
        folder = find_run(folder)
        return cls(load_study(read_study(folder).config, overrides), folder)

    def run(self, hooks: StudyHooks | None = None) -> "Study":
        """Run a new study to its end. Raises RunError if its run folder exists."""
        if (self.folder / "study.json").exists():
            raise RunError(
                f"{self.folder}: a run of this name exists; go on with 'taskgroup resume {self.folder}', "
                "choose another name with --set name=..., or remove the folder"
            )
        return self._run(hooks or StudyHooks())

    def resume(self, hooks: StudyHooks | None = None) -> "Study":
        """Go on where the run stopped; nothing that was trained is trained again."""
        read_study(self.folder)
        return self._run(hooks or StudyHooks())

    def work(self, hooks: StudyHooks | None = None) -> int:
        """Join a run that another process conducts: run trials until none is left to begin; how many were run here.

        Processes on several machines need the run folder on a file system they share, and a ``storage`` made for that
        (a database server, or ``journal:PATH``). Raises RunError: there is no such run.
        """
        hooks = hooks or StudyHooks()
        read_study(self.folder)
        if self.final() is not None:
            return 0
        data, done = StudyData(self.config), []
        with (
            Heartbeat(self.folder, joins=True) as peers,
            self._evaluators(data, peers) as evaluators,
        ):

            def on_record(trial: TrialRecord) -> None:
                append_record(self.folder, trial, peers.writer)
                done.append(trial.number)
                hooks.on_record(trial)

            study = open_optuna(self.config, open_storage(self.config, self.folder))
            hooks.on_phase("search", self.config.search.n_trials)
            loop = self._loop(study, data, evaluators, on_record, peers)
            loop.run(self.config.search.n_trials, self.config.search.time_limit)
        return len(done)

    def records(self) -> list[TrialRecord]:
        """What was recorded so far."""
        return read_records(self.folder)

    def final(self) -> FinalRecord | None:
        """The choice with its test metrics; None while the study has not ended."""
        return read_final(self.folder)

    def leaderboard(self) -> "pd.DataFrame":
        """Baselines, trials and assembled groupings, best first."""
        return leaderboard_frame(self.records())

    def _run(self, hooks: StudyHooks) -> "Study":
        data = StudyData(self.config)
        with (
            _locked(self.folder),
            Heartbeat(self.folder) as peers,
            self._evaluators(data, peers) as evaluators,
        ):
            study = open_optuna(self.config, open_storage(self.config, self.folder))
            refuse_another(study, self.folder)
            enqueue_baselines(study, self.config, searched_space(self.config))
            write_study(self.folder, self._study_record(data))  # from here on others may join
            store = evaluators[0].store
            store.recover(peers.lives)
            tracker = self._tracker(data)
            later = BackgroundQueue()
            later.call(tracker.sync, self.records())

            def on_record(trial: TrialRecord) -> None:
                append_record(self.folder, trial)
                later.call(tracker.log_trial, trial)
                hooks.on_record(trial)

            state = "interrupted"
            try:
                self._search(study, data, evaluators, on_record, hooks, peers)
                later.call(tracker.sync, self.records())
                finaliser = Finaliser(
                    self.config, self.folder, data, store, evaluators[0], on_record, hooks.on_phase
                )
                final = finaliser.run(self.records())
                later.wait()
                tracker.log_final(final)
                self._explain(data, store, final, tracker, hooks)
                state = "finished"
                # Only trainings that timed out or failed have left any, and nobody will go on with them.
                shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
            finally:
                write_study(self.folder, self._study_record(data, state))
                later.close()
                tracker.close(state)
        return self

    def _search(
        self,
        study: "optuna.Study",
        data: StudyData,
        evaluators: list[Evaluator],
        on_record: Callable[[TrialRecord], None],
        hooks: StudyHooks,
        peers: Heartbeat,
    ) -> None:
        """Conduct the search: run trials, and see to those of others to the end."""
        search, began = self.config.search, time.monotonic()
        settle_interrupted(study, self.records(), peers)
        hooks.on_phase("search", search.n_trials)
        loop = self._loop(study, data, evaluators, on_record, peers)
        while True:
            used = time.monotonic() - began
            loop.run(
                search.n_trials,
                None if search.time_limit is None else max(0.0, search.time_limit - used),
            )
            trials = loop.wait()
            evaluators[0].store.recover(peers.lives)
            left_behind = settle_interrupted(
                study, self.records(), peers
            )  # by others that were killed
            in_time = search.time_limit is None or time.monotonic() - began < search.time_limit
            if not in_time or (trials >= search.n_trials and not left_behind):
                return

    def _loop(
        self,
        study: "optuna.Study",
        data: StudyData,
        evaluators: list[Evaluator],
        on_record: Callable[[TrialRecord], None],
        peers: Heartbeat,
    ) -> SearchLoop:
        grouping, model, training = settings_of(searched_space(self.config).baseline())
        affinities = Affinities(data, self.folder, Recipe(model, training), self.config.search.seed)
        proposer = GroupingBuilder(data.targets.names, grouping, affinities)
        return SearchLoop(
            self.config, study, proposer, evaluators, on_record, self.records(), peers
        )

    def _explain(
        self,
        data: StudyData,
        store: ResultStore,
        final: FinalRecord,
        tracker: Tracker,
        hooks: StudyHooks,
    ) -> None:
        """Who helped whom, as files of the run folder and of the MLflow run, with the affinities and the report."""
        if not (self.folder / "transfer").exists():
            hooks.on_phase("explain", 0)
            write_transfer(run_transfer(self.folder, data, store, final), self.folder / "transfer")
        report = write_report(self.folder, self.folder / "report.html")
        kept = (self.folder / "affinity", self.folder / "transfer", report)
        tracker.log_artifacts(*(path for path in kept if path.exists()))

    def _tracker(self, data: StudyData) -> Tracker:
        tracking = self.config.tracking
        experiment = tracking.experiment or f"taskgroup/{data.dataset.name}"
        return Tracker(self.folder, self.config.name, experiment=experiment, uri=tracking.uri)

    def _study_record(self, data: StudyData, state: str = "running") -> StudyRecord:
        dataset = data.dataset
        versions = {"taskgroup": __version__, "python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
        return StudyRecord(
            name=self.config.name,
            config=self.config.model_dump(mode="json", exclude_unset=True),
            dataset={"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
            split_id=data.splits.id,
            targets={
                t.name: {"kind": t.kind, "unit": t.unit, "transform": t.transform}
                for t in data.targets.specs
            },
            versions=versions,
            state=state,
        )

    @contextlib.contextmanager
    def _evaluators(self, data: StudyData, peers: Heartbeat) -> Iterator[list[Evaluator]]:
        wanted = self.config.executor
        threads = wanted.threads or max(1, available_cores() // wanted.workers)
        names = [f"{peers.writer}-{i}" if peers.writer else str(i) for i in range(wanted.workers)]
        store = ResultStore(self.folder / "results", peers.writer or "main")
        executors = [make_executor(wanted.kind, self.folder, threads, name) for name in names]
        try:
            yield [Evaluator(data, store, executor, wanted.time_limit) for executor in executors]
        finally:
            for executor in executors:
                executor.close()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run folder: two processes must not write to one SQLite run. Freed by the system even on SIGKILL."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: another process is working on this run; wait for it or stop it first"
            ) from None
        yield
