"""Trials shown to the sampler, against those in Optuna's storage."""

import optuna
import pytest
from optuna.trial import TrialState

from taskgroup.grouping import Grouping
from taskgroup.search import optuna_trials
from taskgroup.search.optuna_trials import OptunaTrials, TrialSettings
from taskgroup.search.storage import TrialStorage
from taskgroup.spec.config import SearchConfig, StudyConfig
from taskgroup.spec.space import Space
from taskgroup.spec.space_check import load_space
from taskgroup.tracking import TrialRecord
from taskgroup.urls import sqlite_url

STUDY = StudyConfig(name="a", dataset="a", space={}, search=SearchConfig(startup_trials=5, seed=3))


@pytest.fixture
def space() -> Space:
    return load_space(
        {
            "training": {
                "lr": {"low": 0.001, "high": 0.1, "log": True},
                "batch_size": {"choices": [16, 64]},
            }
        }
    )


@pytest.fixture
def storage(tmp_path) -> TrialStorage:
    database = optuna.storages.RDBStorage(sqlite_url(tmp_path / "optuna.db"))
    study = optuna.create_study(storage=database, direction="maximize")
    return TrialStorage(study, database)


def ended(
    asked: TrialSettings, value: float, state: str = "COMPLETE", reached: float | None = None
) -> TrialRecord:
    return TrialRecord(
        number=asked.number,
        kind="trial",
        name=f"trial-{asked.number}",
        grouping=Grouping.singles(["a"]),
        objective=value if state == "COMPLETE" else None,
        skills={},
        gains={},
        settings={},
        state=state,
        fail_kind=None,
        fail_reason=None,
        keys=(),
        n_cached=0,
        seconds=1.0,
        curve=() if reached is None else ({"a": reached},),
    )


def shown(known: OptunaTrials) -> list[tuple[dict, float]]:
    """Parameters and values of what the sampler sees."""
    return [
        (trial.params, trial.value)
        for trial in known._sampled.get_trials(states=(TrialState.COMPLETE,))
    ]


def test_every_trial_stands_in_the_storage_as_it_was_asked_and_told(storage, space):
    known = OptunaTrials(storage, space, STUDY)
    asked = [known.ask() for _ in range(8)]
    for i, each in enumerate(asked):
        known.tell(ended(each, 0.1 * i))
    stored = storage.trials()
    assert [trial.number for trial in stored] == [each.number for each in asked] == list(range(8))
    assert [trial.value for trial in stored] == pytest.approx([0.1 * i for i in range(8)])
    for trial, each in zip(stored, asked, strict=True):
        assert trial.params["training.lr"] == each.settings["training"]["lr"]
        assert trial.state is TrialState.COMPLETE
    assert shown(known) == [(trial.params, trial.value) for trial in stored]


def test_a_stopped_trial_counts_with_what_it_had_reached_and_a_failed_one_not_at_all(
    storage, space
):
    known = OptunaTrials(storage, space, STUDY)
    known.tell(ended(known.ask(), 0.5))
    known.tell(ended(known.ask(), 0.0, "PRUNED", reached=0.3))
    known.tell(ended(known.ask(), 0.0, "FAIL"))
    assert [value for _, value in shown(known)] == [0.5, 0.3]
    assert [trial.state.name for trial in storage.trials()] == ["COMPLETE", "PRUNED", "FAIL"]


def test_a_trial_that_others_have_closed_stays_as_they_closed_it(storage, space):
    known = OptunaTrials(storage, space, STUDY)
    asked = known.ask()
    storage.study.tell(asked.number, state=TrialState.FAIL)
    known.tell(ended(asked, 0.5))
    assert [(trial.state, trial.value) for trial in storage.trials()] == [(TrialState.FAIL, None)]


def test_queued_trials_come_first_in_their_order(storage, space):
    for name, lr, batch_size in (("first", 0.05, 16), ("second", 0.002, 64)):
        parameters = {"training.lr": lr, "training.batch_size": batch_size}
        storage.study.enqueue_trial(parameters, user_attrs={"name": name, "kind": "baseline"})
    known = OptunaTrials(storage, space, STUDY)
    first, second, third = known.ask(), known.ask(), known.ask()
    assert [first.attributes["name"], second.attributes["name"]] == ["first", "second"]
    assert (first.settings["training"]["lr"], second.settings["training"]["lr"]) == (0.05, 0.002)
    assert third.attributes.keys() == {"owner"}


def test_a_resumed_study_shows_the_sampler_what_the_first_run_did(storage, space):
    first, records = OptunaTrials(storage, space, STUDY), []
    for i in range(12):
        state = "PRUNED" if i % 3 == 0 else "COMPLETE"
        records.append(ended(first.ask(), 0.01 * i, state, reached=0.005 * i))
        first.tell(records[-1])
    again = OptunaTrials(storage, space, STUDY, records)
    assert shown(again) == shown(first)
    assert again.ask().number == 12


def test_of_many_trials_the_best_and_the_latest_are_kept(storage, space, monkeypatch):
    monkeypatch.setattr(optuna_trials, "BEST", 3)
    monkeypatch.setattr(optuna_trials, "LATEST", 4)
    monkeypatch.setattr(optuna_trials, "_FULL", 10)
    known = OptunaTrials(storage, space, STUDY)
    values = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.4, 0.5, 0.6, 0.05]
    for value in values:
        known.tell(ended(known.ask(), value))
    assert [value for _, value in shown(known)] == [0.9, 0.8, 0.7, 0.4, 0.5, 0.6, 0.05]


def test_proposals_are_those_of_optuna_itself(storage, space):
    known = OptunaTrials(storage, space, STUDY)
    plain = optuna.create_study(direction="maximize")
    for number in range(20):
        # One sampler per trial, so that a resumed search draws what it would have drawn otherwise.
        plain.sampler = STUDY.search.sampler.make(3 * 100_003 + number, 5)
        asked, trial = known.ask(), plain.ask()
        assert asked.settings == space.suggest(trial)
        value = -abs(trial.params["training.lr"] - 0.02)
        known.tell(ended(asked, value))
        plain.tell(trial, value)


def test_a_repeat_is_shown_to_the_sampler_and_fails_in_the_storage_naming_the_earlier_trial(
    storage, space
):
    known = OptunaTrials(storage, space, STUDY)
    known.tell(ended(known.ask(), 0.5))
    known.tell_repeat(ended(known.ask(), 0.5), earlier=0)
    assert [value for _, value in shown(known)] == [0.5, 0.5]
    first, repeat = storage.trials()
    assert (first.state, repeat.state) == (TrialState.COMPLETE, TrialState.FAIL)
    assert repeat.user_attrs["repeats"] == 0


def test_a_trial_without_a_place_is_withdrawn_and_the_sampler_never_sees_it(storage, space):
    known = OptunaTrials(storage, space, STUDY)
    known.withdraw(known.ask())
    assert shown(known) == []
    (trial,) = storage.trials()
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["withdrawn"] is True


def test_open_trials_are_those_that_run_or_wait(storage, space):
    storage.study.enqueue_trial({"training.lr": 0.05, "training.batch_size": 16})
    storage.study.enqueue_trial({"training.lr": 0.002, "training.batch_size": 64})
    known = OptunaTrials(storage, space, STUDY, owner="here-7")
    assert known.next_queued() == 0
    asked = known.ask()
    assert known.open_numbers() == {0, 1}
    assert known.next_queued() == 1
    assert known.running_owners() == ["here-7"]
    known.tell(ended(asked, 0.5))
    assert known.open_numbers() == {1}
