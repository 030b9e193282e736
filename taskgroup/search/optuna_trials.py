"""Asking Optuna's sampler for trials and telling it what they gave.

TPE fits every parameter to its whole history at each proposal, and a storage commits every parameter by itself: both
grow, or wait for a disk. So the sampler works on a study in memory that holds only the best and the latest trials, and
a trial goes to the storage in one piece. TPE proposes nearly the same: it divides its history into at most 25 best
trials, all of which are kept, and the others, whose weights fall with their age (Optuna's defaults).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from taskgroup.search.storage import TrialStorage
from taskgroup.spec.sections import SearchConfig
from taskgroup.spec.space import Space
from taskgroup.tracking import TrialRecord
from taskgroup.training import mean_skill

# Trials that the sampler's study is refilled with. 25 is the most that Optuna's TPE counts as good.
BEST, LATEST = 25, 175
# Trials that the sampler's study holds before it is refilled.
_FULL = 300


@dataclass(frozen=True)
class TrialSettings:
    """A trial to be run: its number, its settings by section, and its attributes in Optuna's storage.

    The attributes ``name`` and ``kind`` are set for baselines.
    """

    number: int
    settings: dict[str, dict[str, Any]]
    attributes: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of its record: ``baseline`` or ``trial``."""
        return self.attributes.get("kind", "trial")

    @property
    def name(self) -> str:
        """Name of its record."""
        return self.attributes.get("name", f"trial-{self.number}")

    @property
    def is_baseline(self) -> bool:
        """Whether it is a baseline."""
        return self.kind == "baseline"


class OptunaTrials:
    """Asks and tells; to be called under a lock.

    Parameters
    ----------
    storage: the trials in Optuna's storage.
    space: what a trial may choose.
    search: the sampler and its seed.
    records: finished trials of earlier runs.
    owner: name of this process; tells its trials from those of other processes.
    stream: added to the sampler's seed; processes that search together need different random numbers.
    """

    def __init__(
        self,
        storage: TrialStorage,
        space: Space,
        search: SearchConfig,
        records: Sequence[TrialRecord] = (),
        owner: str = "",
        stream: int = 0,
    ) -> None:
        self._storage = storage
        self._space = space
        self._search = search
        self._owner = owner
        self._asked: dict[int, tuple[optuna.Study | None, optuna.Trial]] = {}
        self.may_have_queued = True
        """Whether trials may wait in the queue: baselines, and those that a kill interrupted."""
        # A resumed search must not draw the numbers of the first run again.
        self._seed = (search.seed * 100_003 + len(records) + stream) % 2**32
        self._refill(self._finished_before(records))

    def _finished_before(self, records: Sequence[TrialRecord]) -> list[FrozenTrial]:
        """Return the trials of earlier runs with what the sampler is told of them."""
        value_of_number = {record.number: _value(record) for record in records if record.is_trial}
        finished = []
        for trial in self._storage.trials(TrialState.COMPLETE, TrialState.PRUNED):
            value = value_of_number.get(trial.number)
            if value is not None:
                finished.append(_told(trial, value))
        return finished

    def ask(self) -> TrialSettings:
        """Begin the next trial: a queued one, or what the sampler proposes."""
        if self.next_queued() is not None:
            return self._begin_queued()
        self.may_have_queued = False
        proposal = self._sampled.ask()
        settings = self._space.suggest(proposal)
        attributes = {"owner": self._owner}
        number = self._storage.add_running(proposal.params, proposal.distributions, attributes)
        self._asked[number] = self._sampled, proposal
        return TrialSettings(number, settings, attributes)

    def _begin_queued(self) -> TrialSettings:
        trial = self._storage.study.ask()
        trial.set_user_attr("owner", self._owner)
        settings = self._space.suggest(trial)
        self._asked[trial.number] = None, trial
        return TrialSettings(trial.number, settings, trial.user_attrs)

    def tell(self, record: TrialRecord) -> None:
        """Close a trial in the storage as its record says, and show it to the sampler."""
        self._storage.close_as_recorded(record)
        self._show(record)

    def tell_repeat(self, record: TrialRecord, earlier: int) -> None:
        """Close a trial that repeats an earlier one, and show it to the sampler, which else proposes it for ever.

        In the storage it fails: it gave no value that the earlier trial had not given.
        """
        self._storage.close(record.number, TrialState.FAIL, attributes={"repeats": earlier})
        self._show(record)

    def withdraw(self, trial: TrialSettings) -> None:
        """Close a trial that has no place in the budget; the sampler forgets it."""
        study, asked = self._asked.pop(trial.number)
        self._storage.close(trial.number, TrialState.FAIL, attributes={"withdrawn": True})
        if study is not None:
            study.tell(asked, state=TrialState.FAIL)

    def learn(self, record: TrialRecord) -> None:
        """Show the sampler a trial that another process has finished."""
        value = _value(record)
        if value is None:
            return
        trial = self._storage.trials()[record.number]
        self._sampled.add_trial(_told(trial, value))
        self._count_one_more()

    def running_owners(self) -> list[str]:
        """Return the owners of the trials that run, in all processes."""
        running = self._storage.trials(TrialState.RUNNING)
        return [trial.user_attrs.get("owner", "") for trial in running]

    def open_numbers(self) -> set[int]:
        """Return the numbers of the trials that run or wait in the queue, in all processes."""
        open_trials = self._storage.trials(TrialState.RUNNING, TrialState.WAITING)
        return {trial.number for trial in open_trials}

    def next_queued(self) -> int | None:
        """Return the number of the first trial in the queue; None where the queue is empty."""
        if not self.may_have_queued:
            return None
        waiting = self._storage.trials(TrialState.WAITING)
        return waiting[0].number if waiting else None

    def expect_queued(self) -> None:
        """Look into the queue again: trials may have been added to it."""
        self.may_have_queued = True

    def _show(self, record: TrialRecord) -> None:
        """Show the sampler a trial that ended here."""
        study, trial = self._asked.pop(record.number)
        value = _value(record)
        if study is self._sampled:
            self._sampled.tell(trial, value, TrialState.FAIL if value is None else None)
        elif value is not None:
            # It came from the queue, or the sampler's study was refilled meanwhile.
            self._sampled.add_trial(_told(trial, value))
        self._count_one_more()

    def _count_one_more(self) -> None:
        self._count += 1
        if self._count >= _FULL:
            self._refill(self._sampled.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def _refill(self, finished: Sequence[FrozenTrial]) -> None:
        """Begin a new study for the sampler, with the best and the latest of these trials."""
        latest = list(finished[-LATEST:])
        ids_of_latest = {id(trial) for trial in latest}
        best = sorted(finished, key=lambda trial: -trial.value)[:BEST]
        kept = [trial for trial in best if id(trial) not in ids_of_latest] + latest
        self._sampled = optuna.create_study(
            sampler=_sampler(self._search, self._seed), direction="maximize"
        )
        # The next sampler must draw other numbers than this one.
        self._seed += _FULL
        self._sampled.add_trials(kept)
        self._count = len(kept)


def _value(record: TrialRecord) -> float | None:
    """Return what the sampler is told of a trial: one whose groups were stopped counts with what it had reached."""
    if record.state == "PRUNED" and record.curve:
        return mean_skill(record.curve[-1])
    return record.objective


def _sampler(search: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials)


def _told(trial: optuna.Trial | FrozenTrial, value: float) -> FrozenTrial:
    """Return a finished trial as the sampler's study keeps it."""
    return create_trial(value=value, params=trial.params, distributions=trial.distributions)
