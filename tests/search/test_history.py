"""Finished trials: repeats, skills alone, and giving up early."""

from dataclasses import replace

import pytest

from taskgroup.errors import TaskgroupError
from taskgroup.grouping import Grouping
from taskgroup.search.history import SearchHistory, baseline_records
from taskgroup.tracking import TrialRecord

TRIAL = TrialRecord(
    number=7,
    kind="trial",
    name="trial-7",
    grouping=Grouping.singles(["a", "b"]),
    objective=0.5,
    skills={"a": 0.4, "b": 0.6},
    gains={},
    settings={},
    state="COMPLETE",
    fail_kind=None,
    fail_reason=None,
    keys=("ka", "kb"),
    n_cached=0,
    seconds=1.0,
)
SINGLES = replace(TRIAL, number=0, kind="baseline", name="singles")
FAILED = replace(
    TRIAL, state="FAIL", fail_kind="nan", fail_reason="loss is NaN", keys=(), skills={}
)


def test_a_trial_of_the_same_networks_is_a_repeat_and_the_first_one_is_named():
    history = SearchHistory([replace(TRIAL, number=3)])
    history.add(TRIAL)
    assert history.repeated_trial(replace(TRIAL, number=9)) == 3
    assert history.repeated_trial(replace(TRIAL, keys=("ka",))) is None


def test_baselines_failures_and_assemblies_are_no_repeats():
    history = SearchHistory([FAILED, replace(TRIAL, kind="assembled")])
    assert history.repeated_trial(TRIAL) is None
    assert history.repeated_trial(replace(TRIAL, keys=())) is None
    history.add(TRIAL)
    assert history.repeated_trial(SINGLES) is None


def test_skills_alone_are_those_of_the_baseline_and_of_no_trial():
    history = SearchHistory([replace(TRIAL, name="singles")])
    assert history.skills_alone == {}
    history.add(SINGLES)
    assert history.skills_alone == {"a": 0.4, "b": 0.6}
    assert baseline_records([TRIAL, SINGLES]) == {"singles": SINGLES}


def test_equal_failures_from_the_start_end_a_search_and_others_do_not():
    history = SearchHistory()
    for _ in range(3):
        history.check_start(FAILED)
    with pytest.raises(TaskgroupError, match=r"the first 4 trials all failed \(nan\): loss is NaN"):
        history.check_start(FAILED)
    for earlier in ([], [TRIAL]):
        worked = SearchHistory(earlier)
        worked.check_start(replace(FAILED, fail_reason="another") if not earlier else FAILED)
        for _ in range(6):
            worked.check_start(FAILED)
    recovered = SearchHistory()
    recovered.check_start(TRIAL)
    for _ in range(6):
        recovered.check_start(FAILED)
