"""The search loop with an executor that answers at once."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState

from taskgroup.affinity import affinity_matrix
from taskgroup.errors import GroupingError, TaskgroupError
from taskgroup.execution import Executor, Failure, ResultStore
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.grouping import Grouping
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.loop import SearchLoop
from taskgroup.search.storage import TrialStorage, searched_space
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupJob, GroupResult

RATES = "space.training.lr={low: 0.001, high: 0.01, log: true}"


class Instant(Executor):
    """Answers with one number per target, made from the job; fails for sets of targets in ``failing``."""

    failing: Callable[[GroupJob], bool] = staticmethod(lambda job: False)

    def train(self, jobs: Sequence[GroupJob], on_epoch, on_result, **options) -> dict[str, Failure]:
        failures = {}
        for job in jobs:
            if self.failing(job):
                failures[job.key] = Failure("nan", "loss is NaN")
                continue
            skill = 1 - len(job.targets) / 10 - job.training.lr
            metrics = {target: {"n": 8, "skill": skill} for target in job.targets}
            curve = (dict.fromkeys(job.targets, skill),)
            on_result(GroupResult(job, metrics, curve, 1.0, 1, 1, 10, (0.5,)))
        return failures


class Search:
    """One search: its loop, its records and its storage."""

    def __init__(
        self,
        make_config: Callable,
        folder: Path,
        *overrides: str,
        records: Sequence[TrialRecord] = (),
    ) -> None:
        config = make_config(*overrides)
        self.data = StudyData(config)
        self.n_trials = config.search.n_trials
        self.storage = TrialStorage.open(config, folder)
        self.storage.enqueue_baselines(config)
        settings, _, _ = settings_of(searched_space(config).baseline())
        affinity = affinity_matrix(self.data.targets.rows(self.data.training_rows), "spearman")
        builder = GroupingBuilder(self.data.targets.names, settings, lambda name: affinity)
        self.store = ResultStore(folder / "results")
        self.executor = Instant(folder, 1)
        evaluators = [
            Evaluator(self.data, self.store, self.executor, None)
            for _ in range(config.executor.workers)
        ]
        self.records: list[TrialRecord] = list(records)
        self.loop = SearchLoop(
            config, self.storage, builder, evaluators, self.records.append, records
        )

    def run(self) -> list[TrialRecord]:
        self.loop.run(self.n_trials)
        return self.records


def test_baselines_come_first_then_trials_until_the_budget_is_used(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=9")
    records = search.run()
    assert [record.name for record in records[:4]] == [
        "singles",
        "together",
        "correlation",
        "random",
    ]
    assert [record.number for record in records] == list(range(9))
    assert [record.kind for record in records[4:]] == ["trial"] * 5
    assert search.loop.wait() == 9


def test_the_same_seed_gives_the_same_trials(make_config, tmp_path: Path):
    settings = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        records = Search(make_config, tmp_path / name, RATES, "search.n_trials=9").run()
        settings.append([record.settings for record in records])
    assert settings[0] == settings[1]


def test_a_record_holds_its_plan_gains_and_metrics(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=6")
    for record in search.run():
        plan = Plan.from_dict(record.plan)
        assert plan.grouping == record.grouping
        jobs = search.data.jobs(plan, search.data.search_repeats)
        assert {job.key for job in jobs.values()} == set(record.keys)
        assert set(record.metrics) == set(record.grouping.targets)
        assert record.settings["hp/training.lr"] == plan.recipes[0].training.lr
    alone = search.records[0].skills
    together = search.records[1]
    assert search.records[0].gains == {}
    assert together.gains == {t: together.skills[t] - alone[t] for t in alone}


def test_a_trial_is_recorded_before_optuna_is_told(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=5")
    states: list[TrialState] = []

    def on_record(record: TrialRecord) -> None:
        states.append(search.storage.trials()[record.number].state)

    search.loop._on_record = on_record
    search.loop.run(5)
    assert states == [TrialState.RUNNING] * 5
    assert {trial.state for trial in search.storage.trials()} == {TrialState.COMPLETE}


def test_repeats_are_free_and_a_space_that_is_used_up_ends_the_search(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, "search.n_trials=40")
    records = search.run()
    keys = [record.keys for record in records if record.kind == "trial"]
    assert len(keys) == len(set(keys))
    assert len(records) < 40
    complete = search.storage.trials(TrialState.COMPLETE)
    assert [trial.number for trial in complete] == [record.number for record in records]
    n_stored = len(search.storage.trials())
    # Resumed, the search is over at once: repeats of the first run count on.
    again = Search(make_config, tmp_path, "search.n_trials=40", records=records)
    assert again.run() == records
    assert len(again.storage.trials()) == n_stored


def test_a_resumed_search_goes_on_to_the_same_budget(make_config, tmp_path: Path):
    first = Search(make_config, tmp_path, RATES, "search.n_trials=6").run()
    records = Search(make_config, tmp_path, RATES, "search.n_trials=11", records=first).run()
    assert [record.number for record in records] == list(range(11))


def test_a_failing_trial_is_recorded_with_its_reason_and_counts(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=7")
    search.executor.failing = lambda job: len(job.targets) == 4
    records = search.run()
    together = records[1]
    assert (together.state, together.fail_kind, together.fail_reason) == (
        "FAIL", "nan", "loss is NaN",
    )  # fmt: skip
    assert together.objective is None
    assert len(records) == 7


def test_settings_that_give_no_plan_fail_their_trial_only(make_config, tmp_path: Path, monkeypatch):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=6")
    grouping = GroupingBuilder.grouping

    def broken(self, settings) -> Grouping:
        if settings.method == "together":
            raise GroupingError("no grouping today")
        return grouping(self, settings)

    monkeypatch.setattr(GroupingBuilder, "grouping", broken)
    records = search.run()
    assert (records[1].state, records[1].fail_reason) == ("FAIL", "no grouping today")
    assert records[1].plan is None
    assert len(records) == 6


def test_a_search_in_which_everything_fails_gives_up(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=20")
    search.executor.failing = lambda job: True
    with pytest.raises(TaskgroupError, match="the first 4 trials all failed"):
        search.run()
    assert len(search.records) == 4


def test_no_trial_begins_after_the_time_limit(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=9")
    search.loop.run(9, time_limit=0.0)
    assert search.records == []


def test_an_error_in_one_thread_ends_the_others(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=50", "executor.workers=3")
    seen = threading.Event()

    def on_record(record: TrialRecord) -> None:
        search.records.append(record)
        if len(search.records) == 5 and not seen.is_set():
            seen.set()
            raise OSError("disk full")

    search.loop._on_record = on_record
    with pytest.raises(OSError, match="disk full"):
        search.run()
    assert len(search.records) < 50


def test_interrupted_trials_are_run_again_within_the_budget(make_config, tmp_path: Path):
    search = Search(make_config, tmp_path, RATES, "search.n_trials=8")

    def killed(record: TrialRecord) -> None:
        if record.number == 5:
            raise KeyboardInterrupt
        search.records.append(record)

    search.loop._on_record = killed
    with pytest.raises(KeyboardInterrupt):
        search.run()
    with Heartbeat(tmp_path) as peers:
        assert search.storage.settle_interrupted(search.records, peers) == 1
    again = Search(make_config, tmp_path, RATES, "search.n_trials=8", records=search.records)
    records = again.run()
    assert len(records) == 8
    assert 5 not in {record.number for record in records}
    assert len(again.storage.trials(TrialState.COMPLETE)) == 8


LEARNS = "space.grouping.proposal={choices: [expected, cluster]}"


def test_trials_that_learn_say_so_in_their_parameters_and_repeat_nothing(
    make_config, tmp_path: Path
):
    search = Search(make_config, tmp_path, LEARNS, "search.n_trials=14")
    records = search.run()
    stored = {trial.number: trial for trial in search.storage.trials()}
    learned = [r for r in records if r.settings["grouping/proposal"] == "expected"]
    assert learned
    for record in learned:
        params = stored[record.number].params
        assert params["grouping.proposal"] == "expected"
        assert params["training.lr"] == record.settings["hp/training.lr"]
        assert not any(name in params for name in ("grouping.method", "grouping.threshold"))
        assert record.n_cached < len(record.keys)


def test_a_resumed_search_proposes_what_an_uninterrupted_one_does(make_config, tmp_path: Path):
    overrides = (LEARNS, "search.pruner=none", "search.n_trials=12")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = Search(make_config, tmp_path / "whole", *overrides).run()
    first = Search(make_config, tmp_path / "parts", *overrides)

    def killed(record: TrialRecord) -> None:
        if record.number == 7:
            raise KeyboardInterrupt
        first.records.append(record)

    first.loop._on_record = killed
    with pytest.raises(KeyboardInterrupt):
        first.run()
    with Heartbeat(tmp_path / "parts") as peers:
        first.storage.settle_interrupted(first.records, peers)
    again = Search(make_config, tmp_path / "parts", *overrides, records=first.records).run()
    assert [record.plan for record in again] == [record.plan for record in whole]
