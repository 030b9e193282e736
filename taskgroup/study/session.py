"""One process that searches: its data, its evaluators, the Optuna storage, and the other processes of the run."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskgroup.execution import make_executor
from taskgroup.execution.claims import Claims
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.execution.results import ResultStore
from taskgroup.machine import available_cores
from taskgroup.search.affinities import Affinities
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.loop import SearchLoop
from taskgroup.search.optuna_trials import Optimisers
from taskgroup.search.storage import TrialStorage, searched_space
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.tracking import TrialRecord


@dataclass(frozen=True)
class SearchSession:
    """What one process needs to search.

    ``evaluators`` are one per worker, and share ``store``; ``peers`` are the processes that work on the same run;
    ``optimisers`` are Optuna's sampler and pruner in place of those that the study names.
    """

    config: StudyConfig
    folder: Path
    data: StudyData
    store: ResultStore
    evaluators: list[Evaluator]
    storage: TrialStorage
    peers: Heartbeat
    optimisers: Optimisers | None = None

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        config: StudyConfig,
        folder: Path,
        data: StudyData,
        *,
        joins: bool = False,
        optimisers: Optimisers | None = None,
    ) -> "Iterator[SearchSession]":
        """Open a session; ``joins`` tells a process that joins a run from the one that conducts it."""
        with contextlib.ExitStack() as stack:
            peers = stack.enter_context(Heartbeat(folder, joins=joins))
            store = ResultStore(folder / "results", peers.writer or "main")
            claims = Claims(folder, peers.name, peers.lives)
            evaluators = []
            for name in _executor_names(config.executor.workers, peers.writer):
                executor = make_executor(config.executor.kind, folder, _threads(config), name)
                stack.callback(executor.close)
                time_limit = config.executor.time_limit
                evaluators.append(Evaluator(data, store, executor, time_limit, claims))
            storage = TrialStorage.open(config, folder)
            stack.callback(storage.disconnect)
            yield cls(config, folder, data, store, evaluators, storage, peers, optimisers)

    def loop(
        self, on_record: Callable[[TrialRecord], None], records: Sequence[TrialRecord]
    ) -> SearchLoop:
        """Return the search loop of this process."""
        settings, model, training = settings_of(searched_space(self.config).baseline())
        recipe = Recipe(model, training)
        affinities = Affinities(self.data, self.folder, recipe, self.config.search.seed)
        builder = GroupingBuilder(self.data.targets.names, settings, affinities)
        return SearchLoop(
            self.config,
            self.storage,
            builder,
            self.evaluators,
            on_record,
            records,
            self.peers,
            self.optimisers,
        )


def _threads(config: StudyConfig) -> int:
    """Return the CPU threads of one worker."""
    return config.executor.threads or max(1, available_cores() // config.executor.workers)


def _executor_names(workers: int, writer: str) -> list[str]:
    """Return one name per worker, unique among all processes of a run: files and log files are named after them."""
    prefix = f"{writer}-" if writer else ""
    return [f"{prefix}{number}" for number in range(workers)]
