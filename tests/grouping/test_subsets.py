"""The tables over all sets of tasks choose what the search chooses, ties and all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskgroup.errors import InfeasibleError
from taskgroup.grouping import Candidate, _request, _subsets, solve, solve_each

TASKS = "abcdef"
_scores = st.sampled_from([0.0, 1.0, 2.0, 3.5, 0.1 + 0.2, 0.3])
_sets = st.dictionaries(st.sampled_from(TASKS), _scores, min_size=1)
_costs = st.sampled_from([0.5, 1.0, 2.0])


def _candidates(tables):
    return [
        Candidate(tuple(sorted(scores)), scores, cost, f"n{i}")
        for i, (scores, cost) in enumerate(tables)
    ]


def _by_search(monkeypatch, make):
    with monkeypatch.context() as patch:
        patch.setattr(_request, "MOST_TASKS", 0)
        return make()


def _outcome(candidates, groups):
    try:
        return solve(candidates, groups=groups, higher_is_better=True)
    except InfeasibleError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_sets, _costs), min_size=1, max_size=12), st.integers(1, 6))
def test_tied_tables_are_solved_as_by_search(tables, groups):
    candidates = _candidates(tables)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert _outcome(candidates, groups) == _by_search(
            monkeypatch, lambda: _outcome(candidates, groups)
        )


@pytest.mark.parametrize("seed", range(5))
def test_large_tables_are_solved_as_by_search(seed, monkeypatch):
    random = np.random.default_rng(seed)
    tasks = [f"t{i}" for i in range(9)]
    candidates = []
    for number in range(400):
        held = sorted(random.choice(tasks, random.integers(1, 10), replace=False))
        scores = {task: float(random.normal(0.8, 0.05)) for task in held}
        candidates.append(Candidate(tuple(held), scores, 1.0, f"n{number}"))
    ours = list(solve_each(candidates, 9, higher_is_better=True))
    assert ours == _by_search(
        monkeypatch, lambda: list(solve_each(candidates, 9, higher_is_better=True))
    )
    assert len(ours) > 4
    assert all(solution.gap == 0 for solution in ours)


def test_where_very_many_choices_tie_the_search_is_asked(monkeypatch):
    tables = [(dict.fromkeys(TASKS, 1.0), 1.0 + i % 3) for i in range(400)]
    assert (
        _subsets.Subsets(_request.prepare(_candidates(tables), **_NOTHING).tables()._cover).choices(
            3, 0.0
        )
        is None
    )
    found = solve(_candidates(tables), groups=3)
    assert found == _by_search(monkeypatch, lambda: solve(_candidates(tables), groups=3))
    assert found.cost == 1.0


_NOTHING = dict(
    budget=None, groups=None, disjoint=False, weights=None, max_group_size=None, together=(), apart=(),
    higher_is_better=False,
)  # fmt: skip
