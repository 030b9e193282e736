"""The budget of trials: exact with threads, with processes, and through many resumes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from taskgroup.execution import EXECUTORS, InlineExecutor
from taskgroup.search.budget import TrialBudget
from taskgroup.search.storage import CHOSEN, TrialStorage
from taskgroup.study import Study
from taskgroup.tracking import read_records

RATES = "space.training.lr={low: 0.001, high: 0.01, log: true}"


def limited(limit: int, **options) -> TrialBudget:
    budget = TrialBudget(**options)
    budget.limit = limit
    return budget


def test_a_running_trial_counts_and_stays_counted_once_it_is_recorded():
    budget = limited(2, recorded=[0])
    assert budget.may_begin()
    budget.begun(1)
    assert not budget.may_begin()
    budget.recorded(1)
    assert not budget.may_begin()
    assert budget.used == 2


def test_a_repeat_gives_its_place_back_but_not_for_ever():
    budget = limited(2)
    for number in range(2):
        budget.begun(number)
        budget.repeated(number)
        assert budget.may_begin()
    for number in (2, 3):
        assert budget.may_begin()
        budget.begun(number)
        budget.repeated(number)
    assert not budget.may_begin()
    assert budget.used == 2


def test_trials_of_other_processes_count_from_their_beginning():
    budget = limited(3, recorded=[0])
    assert not budget.may_begin(open_numbers={1, 2})
    assert budget.may_begin(open_numbers={1})
    budget.seen_elsewhere(1)
    budget.seen_elsewhere(2)
    assert not budget.may_begin()


def test_a_trial_has_a_place_if_few_enough_began_before_it():
    budget = limited(3, recorded=[0, 1])
    budget.begun(4)
    assert budget.may_begin(open_numbers={4, 5}, number=4)
    assert not budget.may_begin(open_numbers={3, 4}, number=4)
    budget.withdrawn(4)
    assert budget.may_begin()


@given(st.integers(1, 6), st.lists(st.integers(0, 2), max_size=40))
def test_whoever_begins_in_whatever_order_never_more_than_the_limit_have_a_place(
    limit: int, steps: list[int]
):
    """Three processes that see the storage, but each other's next step only once it is there."""
    open_numbers: set[int] = set()
    budgets = [limited(limit) for _ in range(3)]
    n_begun = 0
    for process in steps:
        budget = budgets[process]
        # What another process begins between this look and the next is not seen.
        if not budget.may_begin():
            continue
        number = n_begun
        n_begun += 1
        open_numbers.add(number)
        budget.begun(number)
        if not budget.may_begin(open_numbers, number):
            open_numbers.discard(number)
            budget.withdrawn(number)
    assert len(open_numbers) == min(limit, n_begun)


def trials_of(study: Study) -> list[int]:
    return [record.number for record in study.records() if record.is_trial]


def complete_numbers(study: Study) -> list[int]:
    """Numbers of the trials that stand in Optuna's storage with a value, but for the choice, which is none of them."""
    complete = TrialStorage.open(study.config, study.folder).trials(TrialState.COMPLETE)
    assert sum(CHOSEN in trial.user_attrs for trial in complete) == 1
    return [trial.number for trial in complete if CHOSEN not in trial.user_attrs]


@pytest.mark.parametrize("workers", [2, 3])
def test_the_budget_is_exact_with_threads(make_config: Callable, tmp_path: Path, workers: int):
    config = make_config(RATES, f"executor.workers={workers}", "search.n_trials=13")
    study = Study(config, tmp_path / "run").run()
    numbers = trials_of(study)
    assert len(numbers) == len(set(numbers)) == 13
    assert sorted(numbers) == complete_numbers(study)


def test_the_budget_is_exact_through_many_resumes(
    make_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A study is interrupted in every trial, often before its record and often after it."""

    class Interrupted(InlineExecutor):
        calls = 0

        def train(self, jobs, on_epoch, on_result, **options):
            Interrupted.calls += 1
            if Interrupted.calls % 3 == 0:
                raise KeyboardInterrupt
            return super().train(jobs, on_epoch, on_result, **options)

    monkeypatch.setitem(EXECUTORS._builtin, "inline", Interrupted)
    # 16 trials are more than this space has, so that proposals repeat each other.
    study = Study(make_config("search.n_trials=16"), tmp_path / "run")
    n_attempts = 0
    while not (study.folder / "final.json").exists():
        n_attempts += 1
        assert n_attempts < 60, "every attempt gets further"
        try:
            study.resume() if (study.folder / "study.json").exists() else study.run()
        except KeyboardInterrupt:
            continue
    assert n_attempts > 5
    numbers = trials_of(study)
    assert len(numbers) == len(set(numbers)) <= 16
    assert sorted(numbers) == complete_numbers(study)
    failed = TrialStorage.open(study.config, study.folder).trials(TrialState.FAIL)
    repeats = [trial for trial in failed if "repeats" in trial.user_attrs]
    assert repeats, "the space is smaller than the budget"
    assert all(trial.user_attrs["repeats"] in numbers for trial in repeats)
    n_stored = len(TrialStorage.open(study.config, study.folder).trials())
    study_again = Study.open(study.folder)
    study_again.resume()
    assert len(TrialStorage.open(study.config, study.folder).trials()) == n_stored


def test_a_repeat_is_no_further_complete_trial(make_config: Callable, tmp_path: Path):
    study = Study(make_config("search.n_trials=16"), tmp_path / "run").run()
    assert sorted(trials_of(study)) == complete_numbers(study)
    keys = [record.keys for record in study.records() if record.kind == "trial"]
    assert len(keys) == len(set(keys))


def start(*arguments: str | Path, home: Path) -> subprocess.Popen:
    environment = os.environ | {"TASKGROUP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "taskgroup", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize("storage", [None, "journal"])
def test_the_budget_is_exact_with_processes_on_one_run(
    make_config: Callable, tmp_path: Path, storage: str | None
):
    """A conductor and two workers at one run; one worker is killed in the middle of a trial."""
    overrides = [RATES, "search.n_trials=16", "refit.top=1"]
    if storage:
        overrides.append(f"storage=journal:{tmp_path / 'journal.log'}")
    config = make_config(*overrides)
    file, run = tmp_path / "small.yaml", tmp_path / "runs" / "small"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    workers = [start("worker", run, "--wait", "2m", "--quiet", home=tmp_path) for _ in range(2)]
    conductor = start("run", file, "--quiet", home=tmp_path)
    deadline = time.monotonic() + 120
    while not any(run.glob("trials-*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    for process in (*workers, conductor):
        output, _ = process.communicate(timeout=240)
        if process is not workers[0]:
            assert process.returncode == 0, output.decode()[-2000:]
    records = [record for record in read_records(run) if record.is_trial]
    assert len({record.number for record in records}) == len(records) == 16
    states = {trial.state for trial in TrialStorage.open(config, run).trials()}
    assert states <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


def test_threads_that_ask_at_once_are_counted_one_by_one():
    budget = limited(50)
    lock = threading.Lock()
    numbers: list[int] = []

    def work() -> None:
        while True:
            with lock:
                if not budget.may_begin():
                    return
                number = len(numbers)
                numbers.append(number)
                budget.begun(number)
            with lock:
                budget.recorded(number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 50
