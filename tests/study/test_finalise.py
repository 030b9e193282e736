"""From searched trials to the final choice: finalists, refits that fail, and gains."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskgroup.errors import TaskgroupError
from taskgroup.execution import Failure, InlineExecutor
from taskgroup.execution.evaluator import Evaluation, Evaluator
from taskgroup.execution.failures import read_failures
from taskgroup.execution.results import ResultStore
from taskgroup.grouping import Group, Grouping
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.study.conduct import study_record
from taskgroup.study.finalise import Finaliser
from taskgroup.study.refit import member_gains, refit
from taskgroup.tracking import TrialRecord, read_final, write_study

TARGETS = ("level", "level_too", "spread", "volume")
PAIR = Grouping((Group(("level", "level_too")), Group(("spread", "volume"))))


class Sparing(InlineExecutor):
    """Trains, but fails for jobs that ``fails`` names, and counts what it trained."""

    fails: Callable = staticmethod(lambda job: False)
    failure = Failure("nan", "loss is NaN")
    trained = 0

    def train(self, jobs, on_epoch, on_result, **options) -> dict[str, Failure]:
        failures = {job.key: self.failure for job in jobs if self.fails(job)}
        good = [job for job in jobs if job.key not in failures]
        self.trained += len(good)
        return super().train(good, on_epoch, on_result, **options) | failures


class Searched:
    """A run folder after a search of three trials, and what finalises it."""

    def __init__(self, make_config: Callable, folder: Path, *overrides: str) -> None:
        self.config = make_config(*overrides)
        self.folder = folder
        self.data = StudyData(self.config)
        write_study(folder, study_record(self.config, self.data, "running"))
        self.store = ResultStore(folder / "results")
        self.executor = Sparing(folder, 1, "0")
        self.evaluator = Evaluator(self.data, self.store, self.executor, None)
        self.recorded: list[TrialRecord] = []
        self.phases: list[tuple[str, int]] = []
        _, model, training = settings_of(self.config.space.baseline())
        self.recipe = Recipe(model, training)
        groupings = (Grouping.singles(TARGETS), PAIR, Grouping.together(TARGETS))
        self.records = [self.trial(number, each) for number, each in enumerate(groupings)]

    def trial(self, number: int, grouping: Grouping) -> TrialRecord:
        plan = Plan.uniform(grouping, self.recipe)
        evaluation = self.evaluator.evaluate(plan, self.data.search_repeats)
        return TrialRecord(
            number=number,
            kind="trial",
            name=f"trial-{number}",
            grouping=grouping,
            objective=evaluation.value,
            skills=evaluation.skills,
            gains={},
            settings={},
            state="COMPLETE",
            fail_kind=None,
            fail_reason=None,
            keys=evaluation.keys,
            n_cached=0,
            seconds=1.0,
            plan=plan.to_dict(),
        )

    def finaliser(self) -> Finaliser:
        return Finaliser(
            self.config,
            self.folder,
            self.data,
            self.store,
            self.evaluator,
            self.recorded.append,
            lambda phase, total: self.phases.append((phase, total)),
        )


@pytest.fixture
def searched(make_config: Callable, tmp_path: Path) -> Iterator[Searched]:
    made = Searched(make_config, tmp_path)
    yield made
    made.executor.close()


def test_larger_groupings_than_allowed_are_not_chosen(make_config: Callable, tmp_path: Path):
    searched = Searched(make_config, tmp_path, "assembly.max_networks=2")
    final = searched.finaliser().run(searched.records)
    assert len(final.grouping) <= 2
    searched.executor.close()


def test_no_more_is_trained_again_than_the_budget_and_the_members_of_the_choice(
    make_config: Callable, tmp_path: Path
):
    searched = Searched(make_config, tmp_path, "refit.top=1")
    before = searched.executor.trained
    final = searched.finaliser().run(searched.records)
    members = searched.config.refit.members
    n_alone = len(TARGETS)
    largest = 4
    assert searched.executor.trained - before <= members * (2 * largest + 2 * n_alone)
    assert len(final.seeds) == members
    searched.executor.close()


def test_an_interrupted_race_goes_on_as_if_it_had_not_been(make_config: Callable, tmp_path: Path):
    chosen = []
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        searched = Searched(make_config, tmp_path / name)
        if name == "parts":
            budget = searched.executor.trained + 4
            searched.executor.fails = lambda job, s=searched, most=budget: (
                s.executor.trained >= most and _interrupt()
            )
            with pytest.raises(KeyboardInterrupt):
                searched.finaliser().run(searched.records)
            searched.executor.fails = lambda job: False
        final = searched.finaliser().run(searched.records)
        chosen.append((final.plan, final.reevaluation, final.probabilities))
        searched.executor.close()
    assert chosen[0] == chosen[1]


def _interrupt() -> bool:
    raise KeyboardInterrupt


def test_a_search_without_a_success_has_nothing_to_choose_from(
    make_config: Callable, tmp_path: Path
):
    searched = Searched(make_config, tmp_path)
    failed = [replace(r, objective=None, state="FAIL", fail_reason="x") for r in searched.records]
    finaliser = searched.finaliser()
    finaliser.store = ResultStore(tmp_path / "nothing")
    with pytest.raises(TaskgroupError, match="no trial succeeded"):
        finaliser.run(failed)
    searched.executor.close()


def test_the_final_record_is_written_once_and_read_from_then_on(searched: Searched):
    final = searched.finaliser().run(searched.records)
    assert [phase for phase, _ in searched.phases] == ["assemble", "reevaluate", "refit", "test"]
    assert (searched.folder / "export").is_dir()
    assert set(final.test) == set(TARGETS)
    n_trained = searched.executor.trained
    again = searched.finaliser().run([])
    assert again == read_final(searched.folder)
    assert searched.executor.trained == n_trained


def test_finalists_that_cannot_be_trained_again_are_left_out(searched: Searched):
    searched.executor.fails = lambda job: job.seed >= 1000 and len(job.targets) == 4
    final = searched.finaliser().run(searched.records)
    assert all(len(group.targets) < 4 for group in final.grouping.groups)


def test_a_study_of_which_nothing_can_be_trained_again_says_why(searched: Searched):
    searched.executor.fails = lambda job: job.seed >= 1000
    with pytest.raises(
        TaskgroupError, match="could not be trained again, in no group: loss is NaN"
    ):
        searched.finaliser().run(searched.records)
    with pytest.raises(TaskgroupError, match=r"refit failed \(nan\): loss is NaN"):
        refit(searched.evaluator, Plan.uniform(PAIR, searched.recipe))


@pytest.mark.parametrize("kind", ["signal", "time_out"])
def test_a_member_that_a_signal_or_the_time_limit_ended_is_trained_again(
    searched: Searched, kind: str
):
    attempts: dict[str, int] = {}

    def fails_twice(job) -> bool:
        attempts[job.key] = attempts.get(job.key, 0) + 1
        return job.seed >= 1000 and attempts[job.key] <= 2

    searched.executor.failure = Failure(kind, "was ended", "log/worker-0.log")
    searched.executor.fails = fails_twice
    final = searched.finaliser().run(searched.records)
    assert set(final.test) == set(TARGETS)
    failed = read_failures(searched.folder)
    assert {(each.kind, each.log) for each in failed} == {(kind, "log/worker-0.log")}
    n_members = len({each.key for each in failed})
    assert len(failed) == 2 * n_members > 0


def test_a_target_that_cannot_be_trained_alone_has_no_gain_and_the_study_ends(searched: Searched):
    searched.executor.fails = lambda job: job.seed >= 1000 and job.targets == ("spread",)
    final = searched.finaliser().run(searched.records)
    assert set(final.test) == set(TARGETS)
    assert "gain" not in final.test["spread"]
    assert all("gain" in final.test[target] for target in TARGETS if target != "spread")
    assert final.test_gain is None
    assert (searched.folder / "export" / "bundle.json").exists()


def evaluation(**skills: float) -> Evaluation:
    return Evaluation(skills, (), (), 0, 1.0)


def test_gains_are_means_of_paired_differences_for_targets_in_joint_groups():
    recipe = Recipe(None, None)
    plan = Plan.uniform(Grouping((Group(("a", "b"), ("a",)), Group(("b",)))), recipe)
    members = [evaluation(a=0.5, b=0.1), evaluation(a=0.7, b=0.1), evaluation(a=0.6, b=0.1)]
    alone = [evaluation(a=0.4, b=0.9), evaluation(a=0.5, b=0.9), evaluation(b=0.9)]
    gains = member_gains(plan, members, alone)
    assert set(gains) == {"a"}
    assert gains["a"].mean == pytest.approx(0.15)
    assert gains["a"].n == 2
    assert gains["a"].low < 0.15 < gains["a"].high
