"""The search loop: queued trials first (baselines, retries), then what the sampler proposes, until the budget is used.

A trial is recorded before Optuna is told. So a kill does no harm at any moment: a finished group is in the ResultStore,
a finished trial in ``trials.jsonl``, and what Optuna still holds as running is settled from there or run again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from optuna.trial import TrialState

from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.search.budget import PeerTrials, TrialBudget
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.history import SearchHistory
from taskgroup.search.learning import LearnedProposals
from taskgroup.search.optuna_trials import Optimisers, OptunaTrials, TrialSettings
from taskgroup.search.pruner import GroupPruner
from taskgroup.search.storage import REPEATS, TrialStorage, searched_space
from taskgroup.search.trial import TrialRunner
from taskgroup.spec.config import StudyConfig
from taskgroup.tracking import TrialRecord

_LEARNT_TRIALS = 300  # latest trials of earlier runs whose groups the pruner learns from
_PEER_INTERVAL = 0.5  # seconds between two looks at what other processes do


class SearchLoop:
    """Runs trials until the budget is used.

    Parameters
    ----------
    config: what is searched.
    storage: the trials in Optuna's storage.
    builder: makes groupings out of clustering settings.
    evaluators: one per worker; with several, trials run at the same time in threads.
    on_record: called with every finished trial's record, before Optuna is told (under a lock).
    records: what earlier runs of the study left.
    peers: other processes that search with this one.
    optimisers: Optuna's sampler and pruner in place of those that the study names.
    """

    def __init__(
        self,
        config: StudyConfig,
        storage: TrialStorage,
        builder: GroupingBuilder,
        evaluators: Sequence[Evaluator],
        on_record: Callable[[TrialRecord], None],
        records: Sequence[TrialRecord] = (),
        peers: Heartbeat | None = None,
        optimisers: Optimisers | None = None,
    ) -> None:
        self._evaluators = evaluators
        self._on_record = on_record
        self._lock = threading.Lock()
        numbers = [record.number for record in records if record.is_trial]
        n_repeats = sum(REPEATS in trial.user_attrs for trial in storage.trials(TrialState.FAIL))
        self._budget = TrialBudget(numbers, n_repeats)
        self._peer_trials = PeerTrials(peers, numbers)
        self._history = SearchHistory(records)
        owner = peers.name if peers else ""
        stream = peers.stream if peers else 0
        space = searched_space(config)
        self._learning: LearnedProposals | None = None
        if space.learns:
            self._learning = LearnedProposals(config, builder.targets)
        self._trials = OptunaTrials(
            storage, space, config, records, owner, stream, optimisers, self._learning
        )
        pruner = None
        if config.search.pruner == "group":
            pruner = GroupPruner(config.assembly, config.search.warmup_epochs, config.objective)
        self._runner = TrialRunner(
            builder, self._history, pruner, config.objective, self._trials.should_prune
        )
        self._runner.learn_recorded(records[-_LEARNT_TRIALS:], evaluators[0])
        for record in records:
            self._learn(record)

    def run(self, n_trials: int, time_limit: float | None = None) -> None:
        """Run trials until there are ``n_trials`` in all; none begins after ``time_limit`` seconds.

        A trial that repeats an earlier one does not count; see TrialBudget.
        """
        deadline = None if time_limit is None else time.monotonic() + time_limit
        self._budget.limit = n_trials
        self._runner.start()
        self._trials.expect_queued()
        if len(self._evaluators) == 1:
            self._work(self._evaluators[0], deadline)
            return
        with ThreadPoolExecutor(len(self._evaluators)) as pool:
            futures = [pool.submit(self._work, each, deadline) for each in self._evaluators]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # After an error or an interrupt, the other threads end at their next epoch.
                self._runner.stop()
            for future in done:
                future.result()

    def wait(self) -> int:
        """Wait for the trials that other processes still run, and return how many trials there are now in all."""
        while self._peer_trials.count_alive(self._trials.running_owners()):
            time.sleep(_PEER_INTERVAL)
        with self._lock:
            self._take_in_peers()
        return self._budget.used

    def _work(self, evaluator: Evaluator, deadline: float | None) -> None:
        """Run one trial after another; the work of one thread."""
        while not self._runner.is_stopping:
            if deadline is not None and time.monotonic() >= deadline:
                return
            with self._lock:
                trial = self._begin()
            if trial is None:
                return
            record = self._runner.run(trial, evaluator)
            if record is None:
                return
            with self._lock:
                self._finish(record)

    def _begin(self) -> TrialSettings | None:
        """Begin the next trial; None where the budget is used."""
        # A process alone knows all trials; reading the storage takes time.
        reads_storage = self._trials.may_have_queued or self._peer_trials.has_peers()
        if not self._has_place(self._trials.next_queued(), reads_storage):
            return None
        trial = self._trials.ask()
        self._budget.begun(trial.number)
        # Among the first numbers each has a place; behind them, other processes may have been faster.
        if trial.number < self._budget.limit or self._has_place(trial.number, reads_storage=True):
            return trial
        self._trials.withdraw(trial)
        self._budget.withdrawn(trial.number)
        return None

    def _has_place(self, number: int | None, reads_storage: bool) -> bool:
        """Return whether the trial with this number, or one more trial, has a place in the budget."""
        open_numbers = self._trials.open_numbers() if reads_storage else ()
        # After the storage was read, never before: a trial that ends in between would be counted nowhere.
        self._take_in_peers()
        return self._budget.may_begin(open_numbers, number)

    def _finish(self, record: TrialRecord) -> None:
        repeated = self._history.repeated_trial(record)
        if repeated is not None:
            self._trials.tell_repeat(record, repeated)
            self._budget.repeated(record.number)
            return
        self._on_record(record)
        self._trials.tell(record)
        self._budget.recorded(record.number)
        self._history.add(record)
        self._learn(record)
        self._history.check_start(record)

    def _learn(self, record: TrialRecord) -> None:
        """Let the proposals learn from a finished trial."""
        if self._learning is None or not record.is_trial:
            return
        store = self._evaluators[0].store
        results = [store.get(key) for key in record.keys]
        self._learning.learn(record, [result for result in results if result is not None])

    def _take_in_peers(self) -> None:
        """Learn from the trials that other processes have recorded."""
        records = self._peer_trials.take()
        if not records:
            return
        self._evaluators[0].store.refresh()
        self._runner.learn_recorded(records, self._evaluators[0])
        for record in records:
            self._budget.seen_elsewhere(record.number)
            self._trials.learn(record)
            self._history.add(record)
            self._learn(record)
