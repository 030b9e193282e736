"""The trials of a study in Optuna: all of them in its storage, those the sampler looks at in memory.

TPE fits every parameter to its whole history at each proposal, and a storage commits every parameter by itself: both
grow, or wait for a disk. So the sampler works on a study in memory (*near*) that holds the best trials and the latest,
and a trial goes to the storage in one piece. What TPE proposes hardly changes: it divides the history into at most 25
best trials, which near holds, and the others, whose weights fall with their age (Optuna's defaults).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from taskgroup.spec.config import SearchConfig
from taskgroup.spec.space import Space
from taskgroup.tracking import TrialRecord
from taskgroup.training import mean_skill

BEST, LATEST = (
    25,
    175,
)  # trials near is refilled with; 25 is the most that Optuna's TPE counts as good
_FULL = 300  # trials near holds before it is refilled


@dataclass(frozen=True)
class TrialSettings:
    """A trial to be evaluated: its number, its settings a section each, and the name and kind of a baseline."""

    number: int
    settings: dict[str, dict[str, Any]]
    attributes: dict[str, Any]


class OptunaTrials:
    """Asks and tells; to be called under a lock.

    Parameters
    ----------
    study: the Optuna study in its storage.
    space: what a trial may choose.
    search: the sampler and its seed.
    records: finished trials of earlier runs.
    owner: the name of this process, which tells its trials from those of others.
    stream: which random numbers the sampler draws; processes that search together need different ones.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        search: SearchConfig,
        records: Sequence[TrialRecord] = (),
        owner: str = "",
        stream: int = 0,
    ) -> None:
        self._study, self._space, self._search, self._owner = study, space, search, owner
        self._asked: dict[int, tuple[optuna.Study | None, optuna.Trial | FrozenTrial]] = {}
        self._waiting = True  # trials may be queued: baselines, and those a kill interrupted
        self._seed = (search.seed * 100_003 + len(records) + stream) % 2**32
        values = {
            record.number: _value(record)
            for record in records
            if record.kind in ("baseline", "trial")
        }
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        known = [
            (trial, values[trial.number]) for trial in done if values.get(trial.number) is not None
        ]
        self._fill([_finished(trial, value) for trial, value in known])

    def ask(self) -> TrialSettings:
        """The next trial: a queued one, or what the sampler proposes."""
        if self._waiting and self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            trial = self._study.ask()
            trial.set_user_attr("owner", self._owner)
            settings = self._space.suggest(trial)
            self._asked[trial.number] = None, trial
            return TrialSettings(trial.number, settings, trial.user_attrs)
        self._waiting = False
        near = self._near.ask()
        settings = self._space.suggest(near)
        attributes = {"owner": self._owner}
        running = create_trial(
            state=TrialState.RUNNING,
            params=near.params,
            distributions=near.distributions,
            user_attrs=attributes,
        )
        storage = self._study._storage  # study.add_trial does not say which number the trial got
        number = storage.get_trial_number_from_id(
            storage.create_new_trial(self._study._study_id, running)
        )
        self._asked[number] = self._near, near
        return TrialSettings(number, settings, attributes)

    def tell(self, record: TrialRecord) -> None:
        """Close a trial in the storage and show it to the sampler."""
        tell(self._study, record)
        origin, trial = self._asked.pop(record.number)
        value = _value(record)
        if origin is self._near:
            self._near.tell(trial, value, None if value is not None else TrialState.FAIL)
        elif value is not None:  # near was refilled meanwhile, or the trial was queued
            self._near.add_trial(_finished(trial, value))
        self._grown()

    def learn(self, record: TrialRecord) -> None:
        """Show the sampler what another process has finished."""
        value = _value(record)
        if value is None:
            return
        self._near.add_trial(
            _finished(self._study.get_trials(deepcopy=False)[record.number], value)
        )
        self._grown()

    def running(self) -> list[str]:
        """The owners of trials that run, in all processes."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.user_attrs.get("owner", "") for trial in running]

    def to_retry(self) -> bool:
        """Whether trials wait that a kill interrupted."""
        waiting = self._waiting and self._study.get_trials(
            deepcopy=False, states=(TrialState.WAITING,)
        )
        return any("retry_of" in trial.user_attrs for trial in waiting or ())

    def look_again(self) -> None:
        """OptunaTrials may have been queued."""
        self._waiting = True

    def _grown(self) -> None:
        self._count += 1
        if self._count >= _FULL:
            self._fill(self._near.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def _fill(self, done: Sequence[FrozenTrial]) -> None:
        """A new near with the best and the latest of these trials, and a sampler that draws new numbers."""
        best = sorted(done, key=lambda trial: -trial.value)[:BEST]
        latest = list(done[-LATEST:])
        taken = {id(trial) for trial in latest}
        kept = [trial for trial in best if id(trial) not in taken] + latest
        sampler = _sampler(self._search, self._seed)
        self._seed += _FULL
        self._near = optuna.create_study(sampler=sampler, direction="maximize")
        self._near.add_trials(kept)
        self._count = len(kept)


def tell(study: optuna.Study, record: TrialRecord) -> None:
    """Close a running trial as its record says, unless others have taken this process for dead and closed it.

    To the storage itself: ``study.tell`` reads the trial back first, and so takes twice as long.
    """
    storage, values = study._storage, None if record.objective is None else [record.objective]
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, record.number)
    with contextlib.suppress(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial, TrialState[record.state], values)


def _value(record: TrialRecord) -> float | None:
    """What the sampler is told of a trial: a group that was stopped counts with the skill it had reached."""
    if record.state == "PRUNED" and record.curve:
        return mean_skill(record.curve[-1])
    return record.objective


def _sampler(search: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials)


def _finished(trial: optuna.Trial | FrozenTrial, value: float) -> FrozenTrial:
    """A finished trial as near keeps it."""
    return create_trial(value=value, params=trial.params, distributions=trial.distributions)
