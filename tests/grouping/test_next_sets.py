"""Active choice of sets: what is asked, in which order, and whether it finds a hidden optimum sooner than chance."""

import time
from itertools import combinations

import numpy as np
import pytest

from taskgroup.errors import GroupingError, InfeasibleError
from taskgroup.grouping import Candidate, NextSets, solve
from taskgroup.grouping.predict import RidgeOnSets

TASKS = "abcde"
SETS = [s for size in range(1, 6) for s in combinations(TASKS, size)]
SPACE = [Candidate(s, {}) for s in SETS]


def truth(seed):
    """Losses of all 31 sets: directed additive helpers, a little of each set's own."""
    rng = np.random.default_rng(seed)
    effect = dict(zip([(a, b) for a in TASKS for b in TASKS], rng.normal(0, 0.06, 25), strict=True))
    found = {}
    for tasks in SETS:
        values = {
            t: 1 + sum(effect[t, o] for o in tasks if o != t) + 0.02 * rng.normal() for t in tasks
        }
        found[tasks] = Candidate(tasks, values)
    return found


def play(found, n, **options):
    search = NextSets(SPACE, planned=n, **options)
    while len(search.trained) < n:
        search.tell([found[network.tasks] for network in search.ask()])
    return search


def test_all_tasks_come_first_then_pairs_for_half_of_the_plan():
    found = truth(0)
    search = NextSets(SPACE, planned=15, budget=3, seed=1)
    order = []
    for _ in range(15):
        (network,) = search.ask()
        order.append(network.tasks)
        search.tell([found[network.tasks]])
    assert order[0] == tuple(TASKS)
    assert {len(tasks) for tasks in order[1:8]} == {2}
    assert len(set(order)) == 15
    assert any(len(tasks) > 2 for tasks in order[8:])


def test_a_first_batch_without_any_result_holds_all_tasks_then_pairs_of_each():
    whole, *rest = [network.tasks for network in NextSets(SPACE, planned=12, budget=3).ask(6)]
    assert whole == tuple(TASKS)
    assert {len(tasks) for tasks in rest} == {2}
    counts = [sum(task in tasks for tasks in rest) for task in TASKS]
    assert max(counts) - min(counts) <= 1


def test_batches_hold_different_networks_and_never_what_is_pending_or_trained():
    found = truth(1)
    search = NextSets(SPACE, planned=12, budget=3)
    asked = [network.tasks for _ in range(4) for network in search.ask(3)]
    assert len(set(asked)) == 12
    search.tell([found[tasks] for tasks in asked])
    rest = [network.tasks for network in search.ask(100)]
    assert sorted([*asked, *rest]) == sorted(SETS)
    assert search.ask() == []


def test_the_same_seed_asks_the_same_networks():
    orders = [
        [c.tasks for c in play(truth(2), 14, budget=2, seed=seed).trained] for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("options", "part"),
    [({}, 0.6), ({"screening": 0}, 0.25), ({"screening": 0, "predictor": RidgeOnSets()}, 0.75)],
    ids=["default", "no pairs", "another predictor"],
)
def test_assemblies_get_closer_to_the_optimum_than_those_of_random_sets(options, part):
    regret = {"active": [], "random": []}
    for seed in range(12):
        found = truth(seed)
        best = solve(list(found.values()), budget=3).total
        regret["active"].append(play(found, 13, budget=3, seed=seed, **options).best().total - best)
        drawn = np.random.default_rng(seed).permutation(len(SETS) - 1)[:12]
        regret["random"].append(
            solve([*(found[SETS[i]] for i in drawn), found[tuple(TASKS)]], budget=3).total - best
        )
    assert np.mean(regret["active"]) < part * np.mean(regret["random"])


def test_gains_are_maximised_like_losses_are_minimised():
    found = truth(4)
    gains = {
        tasks: Candidate(tasks, {t: -v for t, v in c.scores.items()}) for tasks, c in found.items()
    }
    losses = play(found, 13, budget=2, seed=3)
    mirrored = play(gains, 13, budget=2, seed=3, higher_is_better=True)
    assert [c.tasks for c in mirrored.trained] == [c.tasks for c in losses.trained]
    assert mirrored.best().total == pytest.approx(-losses.best().total)


def test_limits_and_weights_reach_the_assembly():
    search = play(truth(5), 10, groups=2, weights={"a": 3.0})
    assert len(search.best().groups) <= 2
    per_task = search.best().per_task
    assert search.best().total == pytest.approx(sum(per_task.values()) + 2 * per_task["a"])
    with pytest.raises(InfeasibleError, match=r"budget=0\.5"):
        play(truth(5), 3, budget=0.5).best()


def test_a_space_without_a_set_of_all_tasks_is_searched_too():
    space = [Candidate((a,), {}) for a in "ab"] + [
        Candidate(("b", "c"), {}),
        Candidate(("c", "d"), {}),
    ]
    search = NextSets(space, planned=4)
    asked = []
    for _ in range(4):
        asked += search.ask()
        search.tell([Candidate(asked[-1].tasks, dict.fromkeys(asked[-1].tasks, 1.0))])
    assert {c.tasks for c in asked} == {c.tasks for c in space}


def test_bad_requests_are_named():
    with pytest.raises(GroupingError, match="space must hold at least one set, found none"):
        NextSets([], planned=3)
    with pytest.raises(GroupingError, match="planned must be at least 1, found 0"):
        NextSets(SPACE, planned=0)
    with pytest.raises(GroupingError, match="screening must be between 0 and 1, found 2"):
        NextSets(SPACE, planned=3, screening=2)
    with pytest.raises(
        GroupingError, match="results must be of networks in the space, found 'a b q'"
    ):
        NextSets(SPACE, planned=1).tell([Candidate(("a", "b", "q"), {"a": 1})])


def test_a_large_space_is_asked_in_seconds_with_and_without_a_budget():
    rng = np.random.default_rng(0)
    tasks = [f"t{i:02d}" for i in range(27)]
    sets = {
        tuple(sorted(rng.choice(tasks, rng.integers(2, 15), replace=False))) for _ in range(1000)
    } | {tuple(tasks)}
    networks = [Candidate(s, {t: 1 + 0.05 * rng.normal() for t in s}) for s in sorted(sets)]
    for budget in (3, None):
        search = NextSets(networks, planned=60, budget=budget, screening=0)
        search.tell([networks[i] for i in rng.permutation(len(networks))[:40]])
        started = time.process_time()
        assert len(search.ask()) == 1
        assert time.process_time() - started < 20
