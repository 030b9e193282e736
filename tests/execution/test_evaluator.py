"""Evaluating plans: what is trained, in which order, what is stopped and what is tried again."""

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from taskgroup.execution import InlineExecutor, ResultStore
from taskgroup.execution.evaluator import Evaluator, best_so_far
from taskgroup.execution.executor import Failure, all_go_on
from taskgroup.grouping import Grouping
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of


@pytest.fixture
def data(make_config) -> StudyData:
    return StudyData(make_config())


@pytest.fixture
def recipe(make_config) -> Recipe:
    _, model, training = settings_of(make_config().space.baseline())
    return Recipe(model, training)


def test_best_so_far_keeps_the_skills_of_the_best_epoch_as_a_whole():
    curve = [{"a": 0.1, "b": 0.2}, {"a": 0.4, "b": 0.4}, {"a": 0.6, "b": 0.1}, {"a": 0.5, "b": 0.5}]
    assert best_so_far(curve) == [curve[0], curve[1], curve[1], curve[3]]


def test_threads_may_share_one_store_and_train_no_key_twice(
    tmp_path: Path, data: StudyData, recipe: Recipe
):
    store = ResultStore(tmp_path / "results")
    grouping = Grouping.from_partition([["level", "level_too"], ["spread"], ["volume"]])
    plan = Plan.uniform(grouping, recipe)
    trained: list[str] = []

    class Counting(InlineExecutor):
        def train(self, jobs, on_epoch, on_result, **options):
            trained.extend(job.key for job in jobs)
            return super().train(jobs, on_epoch, on_result, **options)

    evaluations = []
    evaluators = [Evaluator(data, store, Counting(tmp_path, 1, str(i)), None) for i in range(3)]
    threads = [
        threading.Thread(target=lambda e=e: evaluations.append(e.evaluate(plan, [(0, 1)])))
        for e in evaluators
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == len(set(trained)) == 3
    assert {tuple(e.skills.items()) for e in evaluations} == {tuple(evaluations[0].skills.items())}


def test_what_nobody_watches_is_trained_a_few_at_a_time_the_longest_first(
    tmp_path: Path, data: StudyData, recipe: Recipe
):
    store = ResultStore(tmp_path / "results")
    rows = {"level": 9, "level_too": 7, "spread": 8, "volume": 5}
    data.labelled_rows = lambda job: rows[job.targets[0]]
    calls: list[list[str]] = []

    class Watched(InlineExecutor):
        at_once = 3

        def train(self, jobs, on_epoch, on_result, **options):
            calls.append([job.targets[0] for job in jobs])
            return super().train(jobs, on_epoch, on_result, **options)

    plan = Plan.uniform(Grouping.singles(tuple(rows)), recipe)
    evaluator = Evaluator(data, store, Watched(tmp_path, 1), None)
    whole = evaluator.evaluate(plan, [(0, 1), (7, 2)])
    assert calls == [
        ["level", "level", "spread"],
        ["spread", "level_too", "level_too"],
        ["volume", "volume"],
    ]
    parts = [evaluator.evaluate(plan, [repeat]) for repeat in ((0, 1), (7, 2))]
    assert len(calls) == 3
    for target in rows:
        assert whole.skills[target] == pytest.approx(
            np.mean([part.skills[target] for part in parts])
        )
    calls.clear()
    evaluator.evaluate(plan, [(8, 1)], all_go_on)
    assert [len(call) for call in calls] == [4]  # watched ones train in step


def test_a_group_left_out_is_stopped_in_all_its_repeats_and_not_begun_again(
    tmp_path: Path, data: StudyData, recipe: Recipe
):
    plan = Plan.uniform(Grouping.singles(["level", "spread", "volume"]), recipe)
    store = ResultStore(tmp_path / "results")
    evaluator = Evaluator(data, store, InlineExecutor(tmp_path, 1), None)
    asked = []

    def stop_spread(epoch, skills):
        asked.append((epoch, [group.targets[0] for group in skills]))
        return [group for group in skills if group.targets != ("spread",) or epoch < 2]

    evaluation = evaluator.evaluate(plan, [(0, 1), (0, 2)], stop_spread)
    names = ["level", "spread", "volume"]
    assert asked[:3] == [(1, names), (2, names), (3, ["level", "volume"])]
    assert (evaluation.skills, evaluation.failure) == ({}, None)
    assert {result.targets for result in evaluation.results} == {("level",), ("volume",)}
    assert len(evaluation.results) == 4
    assert [set(skills) for skills in evaluation.curve] == [set(names)] * 4
    assert evaluation.curve[3]["spread"] == evaluation.curve[1]["spread"]

    asked.clear()
    again = evaluator.evaluate(plan, [(0, 1), (0, 2)], stop_spread)
    assert (asked, again.skills, again.curve) == ([], {}, evaluation.curve)
    unwatched = evaluator.evaluate(plan, [(0, 1), (0, 2)])
    assert set(unwatched.skills) == set(names)


@pytest.mark.parametrize("kind", ["out_of_memory", "signal", "nan"])
def test_what_may_have_failed_for_lack_of_room_is_trained_again_alone(
    tmp_path: Path, data: StudyData, recipe: Recipe, kind: str
):
    plan = Plan.uniform(Grouping.singles(["level", "spread", "volume"]), recipe)
    calls: list[list[str]] = []

    class Narrow(InlineExecutor):
        """Fails all jobs but one of a call, in their second epoch."""

        def train(self, jobs, on_epoch, on_result, **options):
            calls.append([job.targets[0] for job in jobs])
            failing = {job.key for job in jobs[1:]}

            def only_first(epoch, skills):
                going_on = on_epoch(epoch, skills)
                return going_on if epoch < 2 else [key for key in going_on if key not in failing]

            failures = super().train(jobs, only_first, on_result, **options)
            return failures | dict.fromkeys(failing, Failure(kind, "no room"))

    store = ResultStore(tmp_path / "results")
    evaluator = Evaluator(data, store, Narrow(tmp_path, 1), None)
    evaluation = evaluator.evaluate(plan, [(0, 1)], all_go_on)
    if kind == "nan":
        assert calls == [["level", "spread", "volume"]]
        assert evaluation.failure == Failure("nan", "no room")
        return
    assert calls == [["level", "spread", "volume"], ["spread"], ["volume"]]
    assert (set(evaluation.skills), evaluation.failure) == ({"level", "spread", "volume"}, None)
    # A curve that begins anew replaces what the failed attempt had left of it.
    assert len(evaluation.curve) == recipe.training.epochs
    for result in evaluation.results:
        (target,) = result.targets
        best = [skills[target] for skills in best_so_far(result.curve)]
        assert [skills[target] for skills in evaluation.curve] == pytest.approx(best)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_ends_the_evaluation_and_is_no_failure_of_a_network(
    tmp_path: Path,
    data: StudyData,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
):
    plan = Plan.uniform(Grouping.singles(["level", "spread"]), recipe)

    def fill(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    store = ResultStore(tmp_path / "results")
    evaluator = Evaluator(data, store, InlineExecutor(tmp_path, 1), None)
    with monkeypatch.context() as patch:
        patch.setattr("taskgroup.execution.worker.store_fit", fill)
        with pytest.raises(OSError, match="the disk is full"):
            evaluator.evaluate(plan, [(0, 1)])
    assert evaluator.evaluate(plan, [(0, 1)]).failure is None
