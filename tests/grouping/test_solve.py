"""The solver against published optima, brute force, and a plain integer program."""

import itertools
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from taskgroup.errors import GroupingError, InfeasibleError
from taskgroup.grouping import Candidate, evaluate, pareto, read_table, solve, solve_each
from taskgroup.grouping import _search as search_module

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/data/grouping_tables"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published tables are not at {PUBLISHED}"
)

# budget: test total and networks chosen on validation, "h:" a half-cost network (Standley et al. 2020, both settings)
OPTIMA = {
    "results": {
        1: (0.50278, "abcde"), 1.5: (0.46132, "h:a bcde"), 2: (0.45224, "abc cde"), 2.5: (0.44612, "h:c abc cde"),
        3: (0.44235, "c abc cde"), 3.5: (0.43932, "h:c acd bcd cde"), 4: (0.43555, "c acd bcd cde"),
        4.5: (0.43555, "c acd bcd cde"), 5: (0.43481, "c d acd bcd cde"),
    },
    "results_large": {
        1: (0.35989, "abcde"), 1.5: (0.35478, "h:d abce"), 2: (0.31733, "cd abce"), 2.5: (0.31450, "h:e cd abc"),
        3: (0.30606, "cd ce abc"), 3.5: (0.30490, "h:c cd ce abc"), 4: (0.30190, "ac bc cd ce"),
        4.5: (0.30190, "ac bc cd ce"), 5: (0.30167, "c ac cd ce abc"),
    },
}  # fmt: skip


def networks(solution):
    return {("h:" if group.cost == 0.5 else "") + "".join(group.tasks) for group in solution.groups}


def random_table(seed, n_tasks, n_sets, largest, costs=(1.0,)):
    """Every task alone, then random sets with noisy scores."""
    rng = np.random.default_rng(seed)
    tasks = [f"t{i:02d}" for i in range(n_tasks)]
    sets = [(task,) for task in tasks]
    while len(sets) < n_sets:
        sets.append(tuple(rng.choice(tasks, rng.integers(2, largest + 1), replace=False)))
    return [
        Candidate(s, {t: 1 + 0.05 * rng.normal() for t in s}, float(rng.choice(costs)))
        for s in sets
    ]


@needs_published
@pytest.mark.parametrize("setting", OPTIMA)
@pytest.mark.parametrize("budget", OPTIMA["results"])
def test_published_optima_of_standley_are_found_with_their_networks(setting, budget):
    validation = read_table(PUBLISHED / f"standley/{setting}.txt", "standley").candidates
    test = read_table(PUBLISHED / f"standley/{setting}_test.txt", "standley").candidates
    total, expected = OPTIMA[setting][budget]
    solution = solve(validation, budget=budget)
    assert networks(solution) == set(expected.split())
    assert evaluate(solution, test).total == pytest.approx(total, abs=5e-6)
    assert solution.gap == 0
    assert solution.cost <= budget


@needs_published
@pytest.mark.parametrize(("setting", "total"), [("results", 0.46052), ("results_large", 0.33196)])
def test_best_two_disjoint_full_networks_are_those_published(setting, total):
    tables = [
        read_table(PUBLISHED / f"standley/{setting}{part}.txt", "standley").candidates
        for part in ("", "_test")
    ]
    validation, test = ([c for c in table if c.cost == 1] for table in tables)
    solution = solve(validation, groups=2, disjoint=True)
    assert solution.grouping().is_partition
    assert evaluate(solution, test).total == pytest.approx(total, abs=5e-6)


@needs_published
@pytest.mark.parametrize(
    ("name", "k", "total"),
    [
        ("celeba9_TAG", 2, -99.441819), ("celeba9_TAG", 3, -92.438429), ("celeba9_TAG", 4, -86.879283),
        ("celeba9_HOA_val", 2, 100 - 6.520370), ("celeba9_HOA_val", 3, 100 - 6.490370),
        ("celeba9_HOA_val", 4, 100 - 6.472222), ("taskonomy5_TAG", 2, 0.321696), ("taskonomy5_TAG", 3, 0.348670),
    ],
)  # fmt: skip
def test_published_optima_of_tag_are_found(name, k, total):
    table = read_table(PUBLISHED / f"tag/{name}.json", "tag")
    solution = solve(
        table.candidates, groups=k, weights=table.weights, higher_is_better=table.higher_is_better
    )
    assert solution.total == pytest.approx(total, abs=1e-6)
    assert len(solution.groups) <= k


def brute_force(candidates, *, budget, groups, disjoint, sign, together, apart):
    """Least (signed total, cost, number of networks) over all choices, or None."""
    best = None
    tasks = sorted({t for c in candidates for t in c.tasks})
    for size in range(1, len(candidates) + 1):
        for choice in itertools.combinations(candidates, size):
            cost = sum(c.cost for c in choice)
            held = [t for c in choice for t in c.tasks]
            if (
                cost > budget
                or size > groups
                or set(held) != set(tasks)
                or (disjoint and len(held) > len(tasks))
            ):
                continue
            if any({a, b} <= set(c.tasks) for c in choice for a, b in apart):
                continue
            value = best_serving(choice, tasks, sign, together)
            if value is not None and (best is None or (round(value, 9), cost, size) < best):
                best = (round(value, 9), cost, size)
    return best


def best_serving(choice, tasks, sign, together):
    parts = [tuple(pair) for pair in together] or []
    parts += [(t,) for t in tasks if not any(t in part for part in parts)]
    total = 0.0
    for part in parts:
        options = [
            sum(sign * c.scores[t] for t in part) for c in choice if set(part) <= set(c.tasks)
        ]
        if not options:
            return None
        total += min(options)
    return total


@st.composite
def requests(draw):
    tasks = "abcde"[: draw(st.integers(1, 5))]
    # whole scores make many ties, the others next to none
    score = draw(st.sampled_from([st.integers(0, 2), st.floats(-1, 1, width=16)]))
    sets = draw(st.lists(st.sets(st.sampled_from(tasks), min_size=1), min_size=1, max_size=6))
    missing = set(tasks) - set().union(*sets)
    sets += [missing] * bool(missing)
    candidates = [
        Candidate(
            tuple(s),
            {t: draw(score) for t in sorted(s)},
            draw(st.sampled_from([0.1, 0.2, 0.3, 1.0])),
        )
        for s in sets
    ]
    pairs = st.lists(
        st.sampled_from(list(itertools.combinations(tasks, 2)) or [("a", "a")]), max_size=1
    )
    return (
        candidates,
        {
            "budget": draw(st.sampled_from([0.3, 0.5, 1.2, 2.0, 99.0])),
            "groups": draw(st.sampled_from([1, 2, 3, 9])),
            "disjoint": draw(st.booleans()),
            "together": draw(pairs) if len(tasks) > 1 else [],
            "apart": draw(pairs) if len(tasks) > 1 else [],
        },
        draw(st.booleans()),
    )


@pytest.mark.parametrize("few", [0, 3000], ids=["by branching", "by comparing all"])
@pytest.mark.parametrize("ties", [1, 200], ids=["crowded ties", "listed ties"])
def test_small_requests_agree_with_brute_force_ties_included(few, ties, monkeypatch):
    monkeypatch.setattr(search_module, "_FEW", few)
    monkeypatch.setattr(search_module, "_TIES", ties)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(requests())
    def check(request):
        candidates, limits, higher = request
        exact = {**limits, "budget": limits["budget"] + 1e-9}
        expected = brute_force(candidates, sign=-1 if higher else 1, **exact)
        if expected is None:
            with pytest.raises(InfeasibleError):
                solve(candidates, higher_is_better=higher, **limits)
            return
        solution = solve(candidates, higher_is_better=higher, **limits)
        total = -solution.total if higher else solution.total
        assert total == pytest.approx(expected[0], abs=1e-8)
        assert (solution.cost, len(solution.groups)) == (pytest.approx(expected[1]), expected[2])
        assert sum(solution.per_task.values()) == pytest.approx(solution.total)
        assert solution.grouping().targets == tuple(
            sorted({t for c in candidates for t in c.tasks})
        )

    check()


def plain_program(candidates, *, disjoint, budget=None, groups=None):
    """The textbook integer program, nothing removed beforehand: the second implementation."""
    tasks = sorted({t for c in candidates for t in c.tasks})
    pairs = [(i, t) for i, c in enumerate(candidates) for t in c.tasks]
    n = len(candidates)
    cost = np.array([0.0] * n + [candidates[i].scores[t] for i, t in pairs])
    rows, low, high = [], [], []

    def add(entries, at_least, at_most):
        row = np.zeros(n + len(pairs))
        for place, value in entries:
            row[place] += value
        rows.append(row), low.append(at_least), high.append(at_most)

    for task in tasks:
        add([(n + j, 1) for j, (_, t) in enumerate(pairs) if t == task], 1, 1)
    for j, (i, _) in enumerate(pairs):
        add([(n + j, 1), (i, -1)], 0 if disjoint else -np.inf, 0)
    if budget is not None:
        add([(i, c.cost) for i, c in enumerate(candidates)], -np.inf, budget)
    if groups is not None:
        add([(i, 1) for i in range(n)], -np.inf, groups)
    rows = LinearConstraint(np.array(rows), low, high)
    result = milp(
        cost, integrality=np.ones(len(cost)), bounds=Bounds(0, 1), constraints=rows,
        options={"mip_rel_gap": 0},
    )  # fmt: skip
    return result.fun


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limits", [{"groups": 4}, {"budget": 5.5}, {"budget": 6.0, "groups": 5}])
def test_middling_tables_agree_with_a_plain_integer_program(seed, limits, disjoint):
    table = random_table(seed, n_tasks=8, n_sets=60, largest=5, costs=(1.0, 1.5, 2.0))
    solution = solve(table, disjoint=disjoint, **limits)
    assert solution.total == pytest.approx(
        plain_program(table, disjoint=disjoint, **limits), abs=1e-7
    )


def test_27_tasks_and_3000_sets_are_proven_and_more_networks_never_hurt():
    table = random_table(0, n_tasks=27, n_sets=3000, largest=14)
    totals = []
    for k in (3, 5, 9, 16, 27):
        solution = solve(table, groups=k)
        assert solution.gap == 0
        assert len(solution.groups) <= k
        totals.append(solution.total)
    assert totals == sorted(totals, reverse=True)
    tasks = [c.tasks[0] for c in table[:27]]
    assert totals[-1] == pytest.approx(
        sum(min(c.scores[t] for c in table if t in c.tasks) for t in tasks)
    )


def test_order_of_rows_tasks_and_options_does_not_change_the_answer():
    table = [
        Candidate(c.tasks, {t: round(v, 2) for t, v in c.scores.items()})
        for c in random_table(3, 7, 60, 5)
    ]
    first = solve(table, groups=3)
    for seed in range(5):
        shuffled = [
            Candidate(tuple(reversed(c.tasks)), dict(reversed(c.scores.items()))) for c in table
        ]
        random.Random(seed).shuffle(shuffled)
        assert solve(shuffled, groups=3) == first


def test_equal_totals_go_to_the_cheaper_then_to_fewer_networks():
    table = [
        Candidate(("a",), {"a": 1}), Candidate(("b",), {"b": 1}),
        Candidate(("a", "b"), {"a": 1, "b": 1}, cost=2), Candidate(("a", "b"), {"a": 1, "b": 1}, cost=1.5),
    ]  # fmt: skip
    assert [group.cost for group in solve(table).groups] == [1.5]
    assert [group.tasks for group in solve([*table[:3]]).groups] == [("a", "b")]


def test_helpers_are_tasks_a_network_holds_but_does_not_serve():
    table = [Candidate(("a", "b"), {"a": 0.2, "b": 0.9}), Candidate(("b",), {"b": 0.5})]
    solution = solve(table)
    assert str(solution.grouping()) == "{a + b} | {b}"
    assert solution.per_task == {"a": 0.2, "b": 0.5}
    assert solution.to_modnet() == [[["a"]], [["b"]]]


def test_a_network_without_a_score_for_a_task_serves_it_never():
    table = [Candidate(("a", "b"), {"a": 0.1}), Candidate(("a", "b"), {"a": 0.5, "b": 0.5})]
    assert {group.serves for group in solve(table).groups} == {("a",), ("b",)}
    assert [group.serves for group in solve(table, groups=1).groups] == [("a", "b")]
    assert len(solve(table, disjoint=True).groups) == 1


def test_weights_move_the_choice_to_the_heavier_task():
    table = [Candidate(("a", "b"), {"a": 1, "b": 3}), Candidate(("a", "b"), {"a": 2, "b": 1})]
    assert solve(table, groups=1).per_task == {"a": 2, "b": 1}
    solution = solve(table, groups=1, weights={"a": 5})
    assert solution.per_task == {"a": 1, "b": 3}
    assert solution.total == 8


def test_normalised_values_are_relative_to_the_best_network_alone():
    table = [
        Candidate(("a",), {"a": 10}), Candidate(("a",), {"a": 8}, cost=2), Candidate(("b",), {"b": 0.1}),
        Candidate(("a", "b"), {"a": 8, "b": 0.05}),
    ]  # fmt: skip
    solution = solve(table, normalise=True, groups=1)
    assert solution.per_task == {"a": 1.0, "b": 0.5}
    assert solution.total == 1.5
    with pytest.raises(GroupingError, match=r"normalise: a set of 'b' alone .* found none"):
        solve([table[0], table[3]], normalise=True)


def test_the_front_holds_the_best_total_at_every_cost():
    table = random_table(5, n_tasks=5, n_sets=30, largest=4, costs=(0.1, 0.2, 0.5))
    front = pareto(table)
    assert [p.cost for p in front] == sorted({p.cost for p in front})
    assert all(
        later.total < earlier.total for earlier, later in zip(front, front[1:], strict=False)
    )
    for budget in np.arange(front[0].cost, front[-1].cost + 0.2, 0.1):
        affordable = [p.total for p in front if p.cost <= budget + 1e-9]
        assert solve(table, budget=round(budget, 3)).total == pytest.approx(min(affordable))
    with pytest.raises(InfeasibleError):
        solve(table, budget=front[0].cost - 0.05)
    assert pareto(table, budget=1.0)[-1] == solve(table, budget=1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("disjoint", [False, True])
def test_each_number_of_networks_has_the_choice_it_has_alone(disjoint, seed):
    table = random_table(seed, 6, 30, 4, costs=(0.5, 1.0))[6 if disjoint else 0 :]
    expected = []
    for number in range(1, 8):
        try:
            found = solve(table, groups=number, disjoint=disjoint)
        except InfeasibleError:
            continue
        if not expected or found != expected[-1]:
            expected.append(found)
    assert list(solve_each(table, 7, disjoint=disjoint)) == expected
    assert len(expected) > (0 if disjoint else 3)


def test_evaluation_keeps_each_task_at_its_network_where_a_set_stands_in_several_rows():
    validation = [Candidate(("a",), {"a": 2}), Candidate(("a",), {"a": 1}, key="#2")]
    test = [Candidate(("a",), {"a": 1}), Candidate(("a",), {"a": 7}, key="#2")]
    solution = solve(validation)
    assert evaluate(solution, test).total == 7
    with pytest.raises(GroupingError, match=r"must hold the chosen set 'a #2' at cost 1"):
        evaluate(solution, test[:1])


def test_time_limit_gives_the_best_found_with_its_gap():
    table = random_table(1, n_tasks=200, n_sets=1500, largest=30, costs=(1.0, 2.0, 3.0))
    started = time.monotonic()
    solution = solve(table, budget=60.0, time_limit=2)
    assert time.monotonic() - started < 30  # a hang, not a slow machine
    assert 0 < solution.gap < 0.1
    assert solution.cost <= 60
    assert len(solution.per_task) == 200


@pytest.mark.parametrize(
    ("limits", "largest_gap"),
    [
        ({"budget": 60.0}, 0.4),
        ({"groups": 40}, 0.4),
        ({"groups": 130, "disjoint": True}, 0.4),
        ({}, 0.4),
    ],
)
def test_a_short_time_limit_holds_for_hundreds_of_tasks_and_thousands_of_sets(limits, largest_gap):
    table = random_table(1, n_tasks=200, n_sets=5000, largest=30, costs=(1.0, 2.0, 3.0))
    started = time.monotonic()
    solution = solve(table, time_limit=2, **limits)
    # 1.2 times the limit on a quiet machine; the rest is for a busy one.
    assert time.monotonic() - started < 5
    assert solution.gap < largest_gap
    assert len(solution.per_task) == 200


TABLE = [
    Candidate(("a", "b"), {"a": 1, "b": 1}),
    Candidate(("c",), {"c": 1}),
    Candidate(("b", "c"), {"b": 1, "c": 1}),
]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 1}, "groups=1: at least 2 networks are needed"),
        ({"budget": 1.5}, "budget=1.5: the cheapest choice that serves every task costs 2"),
        ({"max_group_size": 1}, "max_group_size=1: no allowed set serves 'a'"),
        ({"apart": [("a", "b")]}, "apart 'a', 'b': no allowed set serves 'a'"),
        ({"together": [("a", "c")]}, "together 'a', 'c': no set serves all of them"),
        (
            {"together": [("a", "b"), ("b", "c")], "apart": [("a", "c")]},
            "apart 'a', 'c' contradicts together",
        ),
    ],
)
def test_infeasible_requests_name_the_constraint(options, message):
    with pytest.raises(InfeasibleError, match=message):
        solve(TABLE, **options)


def test_a_table_without_a_partition_says_so():
    with pytest.raises(
        InfeasibleError,
        match="disjoint: no choice among the 2 allowed sets holds every task exactly",
    ):
        solve([TABLE[0], TABLE[2]], disjoint=True)


def test_two_limits_that_exclude_each_other_are_both_named():
    table = [
        Candidate(("a",), {"a": 1}),
        Candidate(("b",), {"b": 1}),
        Candidate(("a", "b"), {"a": 1, "b": 1}, cost=5),
    ]
    with pytest.raises(InfeasibleError, match=r"groups=1 with budget=2\.0: no choice"):
        solve(table, groups=1, budget=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": float("nan")}, "budget must be a number >= 0, found nan"),
        ({"groups": 0}, "groups must be at least 1, found 0"),
        ({"weights": {"bb": 1}}, "weights: no set holds a task 'bb', did you mean 'b'"),
        ({"weights": {"b": -1}}, "weights: the weight of 'b' must be a number >= 0, found -1"),
        ({"together": [("a", "x")]}, "together: no set holds a task 'x', choose from: a, b, c"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(GroupingError, match=message):
        solve(TABLE, **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ("a",), "scores": {"a": 1}, "cost": -1}, "cost must be a number >= 0, found -1"),
        (
            {"tasks": ("a",), "scores": {"a": 1}, "cost": float("nan")},
            "cost must be a number >= 0, found nan",
        ),
        ({"tasks": ("a", "a"), "scores": {"a": 1}}, "a task must be named once, found 'a' twice"),
        (
            {"tasks": ("a",), "scores": {"a": float("nan")}},
            "the score of 'a' must be a finite number, found nan",
        ),
        ({"tasks": ("a",), "scores": {"b": 1}}, "scores must be of tasks in the set, found 'b'"),
        ({"tasks": (), "scores": {}}, "a set must name at least one task, found none"),
    ],
)
def test_bad_candidates_are_named(fields, message):
    with pytest.raises(GroupingError, match=message):
        Candidate(**fields)


def test_empty_tables_and_tasks_without_scores_are_refused_and_one_task_is_answered():
    with pytest.raises(GroupingError, match="the table must hold at least one set, found none"):
        solve([])
    with pytest.raises(
        GroupingError, match="every task must have a score in at least one set, but 'b' has none"
    ):
        solve([Candidate(("a", "b"), {"a": 1})])
    assert solve([Candidate(("a",), {"a": 3}, cost=0)], budget=0).total == 3


def test_scores_of_any_size_are_told_apart():
    for scale in (1e-12, 1.0, 1e12):
        table = [
            Candidate(("a", "b"), {"a": scale, "b": scale * (1 - 1e-6)}),
            Candidate(("a", "b"), {"a": scale, "b": scale}),
        ]
        assert solve(table, groups=1).per_task["b"] == scale * (1 - 1e-6)
