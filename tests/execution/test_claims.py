"""Claims on networks in training: one process each, outbid where its owner is silent, and fenced off afterwards."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskgroup.execution import InlineExecutor, ResultStore
from taskgroup.execution.claims import Claims, newest_claim
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.executor import SUPERSEDED, all_go_on
from taskgroup.execution.worker import WorkerSettings, train_in_step
from taskgroup.grouping import Grouping
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.training import GroupJob

KEY = "k" * 64


def everybody_lives(owner: str) -> bool:
    return True


def nobody_lives(owner: str) -> bool:
    return False


def test_one_process_at_a_time_holds_a_claim(tmp_path: Path):
    first = Claims(tmp_path, "a-1", everybody_lives)
    second = Claims(tmp_path, "b-2", everybody_lives)
    assert first.take(KEY) is not None
    assert second.take(KEY) is None
    assert second.take("m" * 64) is not None
    first.give_back(KEY)
    assert newest_claim(tmp_path, KEY) is None
    assert second.take(KEY) is not None


def test_of_many_that_reach_for_a_claim_at_once_one_gets_it(tmp_path: Path):
    taken = []
    all_are_there = threading.Barrier(8)

    def reach(number: int, lives: Callable[[str], bool]) -> None:
        claims = Claims(tmp_path, f"host-{number}", lives)
        all_are_there.wait()
        if claims.take(KEY) is not None:
            taken.append(claims)

    def race(lives: Callable[[str], bool]) -> None:
        taken.clear()
        threads = [threading.Thread(target=reach, args=(n, lives)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    race(everybody_lives)
    assert len(taken) == 1
    # The one that has it is dead now: again one of many gets it.
    race(lambda owner: newest_claim(tmp_path, KEY).token > 0)
    assert len(taken) == 1
    assert taken[0].holds(KEY)


def test_a_silent_owner_is_outbid_and_fenced_off(tmp_path: Path):
    stalled = Claims(tmp_path, "a-1", everybody_lives)
    first = stalled.take(KEY)
    heir = Claims(tmp_path, "b-2", nobody_lives)
    second = heir.take(KEY)
    assert (first.token, second.token) == (0, 1)
    assert heir.holds(KEY)
    assert not stalled.holds(KEY)
    heir.give_back(KEY)
    assert not stalled.holds(KEY), "what was outbid does not come back"
    stalled.give_back(KEY)
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_job_whose_claim_was_outbid_writes_nothing(tmp_path: Path, jobs):
    (job,) = jobs("level", epochs=3)
    stalled = Claims(tmp_path, "a-1", everybody_lives)
    stalled.take(job.key)
    failures = {}

    def outbid_at_the_last_epoch(epoch: int, skills) -> list[str]:
        if epoch == 3:
            Claims(tmp_path, "b-2", nobody_lives).take(job.key)
        return all_go_on(epoch, skills)

    train_in_step(
        [job],
        WorkerSettings(tmp_path, keep=True, threads=1, owner="a-1", checkpoint_seconds=60),
        outbid_at_the_last_epoch,
        lambda result: pytest.fail("a result was published"),
        lambda key, failure: failures.update({key: failure.kind}),
    )
    assert failures == {job.key: SUPERSEDED}
    for folder in ("predictions", "networks", "results"):
        assert not list((tmp_path / folder).rglob("*.*")), folder


@pytest.fixture
def plan(make_config) -> Plan:
    _, model, training = settings_of(make_config().space.baseline())
    return Plan.uniform(Grouping.singles(["level", "spread"]), Recipe(model, training))


def evaluator_of(
    folder: Path, data: StudyData, name: str, lives: Callable[[str], bool]
) -> tuple[Evaluator, list[str]]:
    """Return an evaluator as another process would have it, and the keys that it trains."""
    trained: list[str] = []

    class Counting(InlineExecutor):
        def train(self, jobs: list[GroupJob], on_epoch, on_result, **options):
            trained.extend(job.key for job in jobs)
            return super().train(jobs, on_epoch, on_result, **options)

    store = ResultStore(folder / "results", name)
    claims = Claims(folder, name, lives)
    return Evaluator(data, store, Counting(folder, 1), None, claims), trained


def test_what_another_process_trains_is_waited_for_and_trained_once(
    tmp_path: Path, make_config, plan: Plan
):
    data = StudyData(make_config())
    evaluators = [evaluator_of(tmp_path, data, f"host-{n}", everybody_lives) for n in range(3)]
    evaluations = []
    threads = []
    for evaluator, _ in evaluators:
        run = lambda evaluator=evaluator: evaluations.append(evaluator.evaluate(plan, [(0, 1)]))  # noqa: E731
        threads.append(threading.Thread(target=run))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trained = [key for _, keys in evaluators for key in keys]
    assert len(trained) == len(set(trained)) == 2
    assert {tuple(e.skills.items()) for e in evaluations} == {tuple(evaluations[0].skills.items())}
    assert all(set(e.curve[-1]) == {"level", "spread"} for e in evaluations)
    assert list((tmp_path / "claims").iterdir()) == []


def test_what_a_dead_process_had_claimed_is_trained_and_what_it_had_published_is_taken(
    tmp_path: Path, make_config, plan: Plan
):
    data = StudyData(make_config())
    jobs = list(data.jobs(plan, [(0, 1)]).values())
    dead = Claims(tmp_path, "dead-1", everybody_lives)
    for job in jobs:
        dead.take(job.key)
    # It had written the files of one network, and not yet its line.
    settings = WorkerSettings(
        tmp_path, keep=False, threads=1, owner="dead-1", checkpoint_seconds=60
    )
    train_in_step(jobs[:1], settings, all_go_on, lambda result: None, pytest.fail)
    evaluator, trained = evaluator_of(tmp_path, data, "host-2", nobody_lives)
    assert evaluator.evaluate(plan, [(0, 1)]).failure is None
    assert trained == [jobs[1].key]


def test_waiting_for_another_process_ends_when_the_search_stops(
    tmp_path: Path, make_config, plan: Plan
):
    data = StudyData(make_config())
    other = Claims(tmp_path, "other-1", everybody_lives)
    for job in data.jobs(plan, [(0, 1)]).values():
        other.take(job.key)
    evaluator, trained = evaluator_of(tmp_path, data, "host-2", everybody_lives)
    ends = time.monotonic() + 0.5
    evaluation = evaluator.evaluate(plan, [(0, 1)], should_stop=lambda: time.monotonic() > ends)
    assert (evaluation.skills, trained) == ({}, [])
