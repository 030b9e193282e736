"""Asking Optuna's sampler for trials and telling it what they gave.

TPE fits every parameter to its whole history at each proposal, and a storage commits every parameter by itself: both
grow, or wait for a disk. So the sampler works on a study in memory that holds only the best and the latest trials, and
a trial goes to the storage in one piece. TPE proposes nearly the same: it divides its history into at most 25 best
trials, all of which are kept, and the others, whose weights fall with their age (Optuna's defaults).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from taskgroup.search.learning import LearnedProposals
from taskgroup.search.storage import REPEATS, TrialStorage, epoch_values
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.spec.space import CLUSTER, EXPECTED, PROPOSAL, Space, settings_of
from taskgroup.tracking import TrialRecord

# Trials that the sampler's study is refilled with. 25 is the most that Optuna's TPE counts as good.
BEST, LATEST = 25, 175
# Trials that the sampler's study holds before it is refilled.
_FULL = 300
# Seeds of one study lie this far apart, and those of processes that search together.
_SEEDS = 100_003
_STREAMS = 1_000_000
# Attribute of a trial that holds its plan, where its parameters do not say what it trains.
_PLAN = "plan"


@dataclass(frozen=True)
class TrialSettings:
    """A trial to be run: its number, its settings by section, and its attributes in Optuna's storage.

    The attributes ``name`` and ``kind`` are set for baselines, ``plan`` where no clustering makes the groups.
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

    @property
    def plan(self) -> Plan | None:
        """What it trains; None where its settings say how to cluster."""
        content = self.attributes.get(_PLAN)
        return None if content is None else Plan.from_dict(content)


@dataclass(frozen=True)
class Optimisers:
    """Objects of Optuna that a study uses in place of those its file names."""

    sampler: BaseSampler | None = None
    pruner: BasePruner | None = None


@dataclass(frozen=True)
class _Asked:
    """A trial that runs, and the sampler's study if it comes from there."""

    study: optuna.Study | None
    trial: optuna.Trial


class OptunaTrials:
    """Asks and tells; to be called under a lock.

    Parameters
    ----------
    storage: the trials in Optuna's storage.
    space: what a trial may choose.
    config: the study: its sampler, its seed and what it optimises.
    records: finished trials of earlier runs.
    owner: name of this process; tells its trials from those of other processes.
    stream: added to the sampler's seed; processes that search together need different random numbers.
    optimisers: sampler and pruner in place of those that the study names.
    learning: proposes plans out of everything trained, for spaces in which trials may do so.
    """

    def __init__(
        self,
        storage: TrialStorage,
        space: Space,
        config: StudyConfig,
        records: Sequence[TrialRecord] = (),
        owner: str = "",
        stream: int = 0,
        optimisers: Optimisers | None = None,
        learning: LearnedProposals | None = None,
    ) -> None:
        self._storage = storage
        self._space = space
        self._search = config.search
        self._objective = config.objective
        self._owner = owner
        self._optimisers = optimisers or Optimisers()
        self._learning = learning
        self._asked: dict[int, _Asked] = {}
        self.may_have_queued = True
        """Whether trials may wait in the queue: baselines, and those that a kill interrupted."""
        self._stream = stream
        finished = self._finished_before(records)
        # Trials that have ended, repeats included. It stands for a trial in its random numbers, so that a resumed
        # search draws what it would have drawn without the interruption.
        self._n_ended = len(finished) + sum(record.state == "FAIL" for record in records)
        self._refill(finished)

    def _finished_before(self, records: Sequence[TrialRecord]) -> list[FrozenTrial]:
        """Return the trials of earlier runs with what the sampler is told of them."""
        record_of_number = {record.number: record for record in records if record.is_trial}
        finished = []
        for trial in self._storage.trials():
            # A repeat has no record of its own, but the sampler was shown it.
            number = trial.user_attrs.get(REPEATS, trial.number)
            record = record_of_number.get(number)
            if trial.state.is_finished() and record is not None:
                value = self._value(record)
                if value is not None:
                    finished.append(_told(trial, value, self._values_by_epoch(record)))
        return finished

    def ask(self) -> TrialSettings:
        """Begin the next trial: a queued one, or what the sampler proposes."""
        if self.next_queued() is not None:
            return self._begin_queued()
        self.may_have_queued = False
        proposal = self._sample()
        settings = self._space.suggest(proposal)
        attributes: dict[str, Any] = {"owner": self._owner}
        if settings["grouping"].get(PROPOSAL) == EXPECTED:
            plan = self._learned_plan(settings)
            if plan is None:
                proposal = self._sample_clustering(proposal)
                settings = self._space.suggest(proposal)
            else:
                attributes[_PLAN] = plan.to_dict()
        number = self._storage.add_running(proposal.params, proposal.distributions, attributes)
        self._asked[number] = _Asked(self._sampled, proposal)
        return TrialSettings(number, settings, attributes)

    def _learned_plan(self, settings: Mapping[str, Mapping[str, Any]]) -> Plan | None:
        try:
            _, model, training = settings_of(settings)
        except ValidationError:
            # Settings that do not go together; as a clustering trial it fails with a reason.
            return None
        return self._learning.propose(Recipe(model, training), self._draw_index)

    @property
    def _draw_index(self) -> int:
        """Number that tells the random draws of the next trial from those of all others."""
        return self._n_ended + len(self._asked) + _STREAMS * self._stream

    def _sample(self) -> optuna.Trial:
        if not self._keeps_sampler:
            self._sampled.sampler = self._new_sampler()
        return self._sampled.ask()

    def _sample_clustering(self, proposal: optuna.Trial) -> optuna.Trial:
        """Return another trial in place of one for which the model knows too little: one that clusters."""
        self._sampled.tell(proposal, state=TrialState.FAIL)
        self._sampled.enqueue_trial({f"grouping.{PROPOSAL}": CLUSTER})
        return self._sampled.ask()

    def _begin_queued(self) -> TrialSettings:
        trial = self._storage.study.ask()
        trial.set_user_attr("owner", self._owner)
        settings = self._space.suggest(trial)
        self._asked[trial.number] = _Asked(None, trial)
        return TrialSettings(trial.number, settings, trial.user_attrs)

    def tell(self, record: TrialRecord) -> None:
        """Close a trial in the storage as its record says, and show it to the sampler."""
        self._storage.close_as_recorded(record)
        self._show(record)

    def tell_repeat(self, record: TrialRecord, earlier: int) -> None:
        """Close a trial that repeats an earlier one, and show it to the sampler, which else proposes it for ever.

        In the storage it fails: it gave no value that the earlier trial had not given.
        """
        self._storage.close(record.number, TrialState.FAIL, attributes={REPEATS: earlier})
        self._show(record)

    def withdraw(self, trial: TrialSettings) -> None:
        """Close a trial that has no place in the budget; the sampler forgets it."""
        asked = self._asked.pop(trial.number)
        self._storage.close(trial.number, TrialState.FAIL, attributes={"withdrawn": True})
        if asked.study is not None:
            asked.study.tell(asked.trial, state=TrialState.FAIL)

    def learn(self, record: TrialRecord) -> None:
        """Show the sampler a trial that another process has finished."""
        value = self._value(record)
        if value is None:
            return
        trial = self._storage.trials()[record.number]
        self._sampled.add_trial(_told(trial, value, self._values_by_epoch(record)))
        self._count_one_more()

    def should_prune(self, number: int, epoch: int, value: float) -> bool:
        """Report a trial's value after an epoch to the pruner given as an object, and return what it says."""
        asked = self._asked[number]
        if self._optimisers.pruner is None or asked.study is None:
            return False
        asked.trial.report(value, epoch)
        return asked.trial.should_prune()

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
        asked = self._asked.pop(record.number)
        self._n_ended += 1
        value = self._value(record)
        if asked.study is self._sampled:
            self._sampled.tell(asked.trial, value, TrialState.FAIL if value is None else None)
        elif value is not None:
            # It came from the queue, or the sampler's study was refilled meanwhile.
            self._sampled.add_trial(_told(asked.trial, value, self._values_by_epoch(record)))
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
        sampler = self._optimisers.sampler or self._new_sampler()
        self._sampled = optuna.create_study(
            sampler=sampler, pruner=self._optimisers.pruner, direction="maximize"
        )
        self._sampled.add_trials(kept)
        self._count = len(kept)

    @property
    def _keeps_sampler(self) -> bool:
        """Whether one sampler makes all proposals: one that is given, or that walks along a sequence."""
        return self._optimisers.sampler is not None or self._search.sampler.walks_a_sequence

    def _new_sampler(self) -> BaseSampler:
        seed = self._search.seed * _SEEDS
        if not self._keeps_sampler:
            seed += self._draw_index
        return self._search.sampler.make(seed % 2**32, self._search.startup_trials)

    def _value(self, record: TrialRecord) -> float | None:
        """Return what the sampler is told of a trial: one that was stopped counts with what it had reached."""
        if record.state == "PRUNED" and record.curve:
            return self._objective.skill(record.curve[-1])
        return record.objective

    def _values_by_epoch(self, record: TrialRecord) -> dict[int, float]:
        return epoch_values(record, self._objective)


def _told(
    trial: optuna.Trial | FrozenTrial, value: float, values_by_epoch: dict[int, float]
) -> FrozenTrial:
    """Return a finished trial as the sampler's study keeps it."""
    return create_trial(
        value=value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=values_by_epoch,
    )
