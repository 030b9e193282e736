"""The exact solver: which networks to keep, and which of them serves which task.

>>> from taskgroup.grouping import Candidate, solve
>>> table = [
...     Candidate(("a", "b"), {"a": 0.2, "b": 0.9}),
...     Candidate(("a",), {"a": 0.3}),
...     Candidate(("b",), {"b": 0.5}),
... ]
>>> solution = solve(table, budget=2)
>>> print(solution.grouping(), round(solution.total, 3))
{a + b} | {b} 0.7
>>> print(solve(table, budget=2, disjoint=True).grouping())
{a} | {b}

The problem: Standley et al., ICML 2020, arXiv:1905.07553, section 5. Few tasks are answered by dynamic programming,
others by branch and bound; ties are broken by lower cost, then fewer networks, then canonical order.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from taskgroup.errors import GroupingError, InfeasibleError
from taskgroup.grouping._milp import Choice
from taskgroup.grouping._request import Request, checked_weights, prepare, tasks_of, whole_costs
from taskgroup.grouping.candidates import Candidate, Solution, SolvedGroup


def solve(
    candidates: Sequence[Candidate],
    *,
    budget: float | None = None,
    groups: int | None = None,
    disjoint: bool = False,
    weights: Mapping[str, float] | None = None,
    max_group_size: int | None = None,
    together: Iterable[Sequence[str]] = (),
    apart: Iterable[Sequence[str]] = (),
    higher_is_better: bool = False,
    normalise: bool = False,
    time_limit: float | None = None,
) -> Solution:
    """Choose networks so that the weighted sum of the tasks, each at the best chosen network that holds it, is best.

    Args:
        candidates: the networks there are.
        budget: the summed cost must not exceed it.
        groups: number of networks at most.
        disjoint: a partition, every task in exactly one chosen set; else sets may overlap (a task that a network holds
            and does not serve is a helper).
        weights: of the tasks, 1 where not given.
        max_group_size: number of tasks of a set at most.
        together: tasks that one network must serve, e.g. ``[("a", "b")]``.
        apart: tasks that no chosen network may hold together.
        higher_is_better: the scores are gains, R2, accuracy...; default: losses.
        normalise: values relative to the best network of the task alone (1 = as good as alone).
        time_limit: seconds; afterwards the best choice found is returned with its gap.

    Raises:
        GroupingError: bad input; or no choice found within the time limit.
        InfeasibleError: no choice meets the request; names the constraint.
    """
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    if normalise:
        candidates = normalised(candidates, higher_is_better=higher_is_better)
    request = prepare(
        candidates, budget=budget, groups=groups, disjoint=disjoint, weights=weights, max_group_size=max_group_size,
        together=together, apart=apart, higher_is_better=higher_is_better,
    )  # fmt: skip
    choice = request.choose(deadline, request.tables())
    if choice.rows is None and choice.proven:
        raise request.why_infeasible(budget)
    if choice.rows is None:
        raise GroupingError(
            f"time_limit={time_limit:g}: no choice that serves every task was found in that time"
        )
    return _solution(request, choice, checked_weights(weights, tasks_of(candidates)))


def solve_each(
    candidates: Sequence[Candidate],
    most: int,
    *,
    disjoint: bool = False,
    weights: Mapping[str, float] | None = None,
    higher_is_better: bool = False,
) -> Iterator[Solution]:
    """Yield the best choices of at most 1, 2, ... ``most`` networks, each better than the one before.

    They are those of ``solve(candidates, groups=number, ...)`` for each number, with the request made ready once.
    Where sets may overlap it ends with the first number that adds nothing: the gain of a further set shrinks as a
    choice grows, so no larger choice is better.
    """
    request = prepare(
        candidates, budget=None, groups=None, disjoint=disjoint, weights=weights, max_group_size=None,
        together=(), apart=(), higher_is_better=higher_is_better,
    )  # fmt: skip
    weight_of = checked_weights(weights, tasks_of(candidates))
    tables = request.tables()
    last = None
    for number in range(1, most + 1):
        choice = replace(request, groups=number).choose(math.inf, tables)
        if choice.rows is None:
            last = None
            continue
        solution = _solution(request, choice, weight_of)
        if solution != last:
            yield solution
        elif not disjoint:
            return
        last = solution


def pareto(
    candidates: Sequence[Candidate], *, budget: float | None = None, **options: Any
) -> list[Solution]:
    """Return the whole front of total against cost, cheapest first: the best choice at each cost or below.

    ``budget`` limits the cost from above; the other options are those of `solve` (``time_limit`` is of one point).
    """
    unit, _ = whole_costs([candidate.cost for candidate in candidates] or [1.0])
    front = [solve(candidates, budget=budget, **options)]
    while True:
        # The next cheaper choice costs at least one unit less.
        cheaper = float(Fraction(repr(front[-1].cost)) - unit)
        if cheaper < 0:
            break
        try:
            front.append(solve(candidates, budget=cheaper, **options))
        except InfeasibleError:
            break
    return front[::-1]


@dataclass(frozen=True)
class Rescored:
    """A choice scored on another table: weighted total and the value of each task."""

    total: float
    per_task: dict[str, float] = field(hash=False)


def evaluate(
    solution: Solution,
    candidates: Sequence[Candidate],
    *,
    weights: Mapping[str, float] | None = None,
    higher_is_better: bool = False,
    normalise: bool = False,
) -> Rescored:
    """Score the same choice on another table (test instead of validation).

    Each task stays at the network that served it. A network is recognised by its tasks, cost and key. Raises
    GroupingError where it is not in the other table.
    """
    if normalise:
        candidates = normalised(candidates, higher_is_better=higher_is_better)
    candidate_of = {(c.tasks, c.cost, c.key): c for c in candidates}
    per_task = {}
    for group in solution.groups:
        candidate = candidate_of.get((group.tasks, group.cost, group.key))
        scores = {} if candidate is None else candidate.scores
        for task in group.serves:
            if task not in scores:
                name = " ".join(group.tasks) + (f" {group.key}" if group.key else "")
                raise GroupingError(
                    f"evaluate: the other table must hold the chosen set '{name}' at cost {group.cost:g} "
                    f"with a score of '{task}', but does not"
                )
            per_task[task] = scores[task]
    per_task = dict(sorted(per_task.items()))
    weight_of = checked_weights(weights, list(per_task))
    return Rescored(_total(per_task, weight_of), per_task)


def normalised(
    candidates: Sequence[Candidate], *, higher_is_better: bool = False
) -> list[Candidate]:
    """Return scores divided by the best network of the task alone; for losses below 1 = better than alone.

    Raises GroupingError where a task has no network of its own, or one of score 0.
    """
    best = max if higher_is_better else min
    alone = {}
    for task in tasks_of(candidates):
        values = [c.scores[task] for c in candidates if c.tasks == (task,) and task in c.scores]
        if not values or best(values) == 0:
            found = "one of score 0" if values else "none"
            raise GroupingError(
                f"normalise: a set of '{task}' alone with a score other than 0 is needed, found {found}"
            )
        alone[task] = abs(best(values))
    relative = []
    for candidate in candidates:
        scores = {task: value / alone[task] for task, value in candidate.scores.items()}
        relative.append(replace(candidate, scores=scores))
    return relative


def _total(per_task: Mapping[str, float], weight_of: Mapping[str, float]) -> float:
    return math.fsum(weight_of[task] * value for task, value in per_task.items())


def _solution(request: Request, choice: Choice, weight_of: Mapping[str, float]) -> Solution:
    """Return a choice as a solution, each part at the best chosen row (the first in canonical order on ties).

    Rows that serve nothing are left out.
    """
    rows = sorted(choice.rows or ())
    best = np.argmin(request.values[rows], axis=0)
    served_by: dict[int, list[str]] = {}
    for part, place in zip(request.parts, best.tolist(), strict=True):
        served_by.setdefault(place, []).extend(part)
    groups = []
    per_task = {}
    for place, row in enumerate(rows):
        if place not in served_by:
            continue
        candidate = request.candidates[row]
        serves = tuple(sorted(served_by[place]))
        groups.append(SolvedGroup(candidate.tasks, serves, candidate.cost, candidate.key))
        for task in serves:
            per_task[task] = candidate.scores[task]
    total = _total(per_task, weight_of)
    cost = sum(Fraction(repr(group.cost)) for group in groups)
    return Solution(
        tuple(groups), total, dict(sorted(per_task.items())), float(cost), _gap(choice, total)
    )


def _gap(choice: Choice, total: float) -> float:
    """Return the relative distance between a total and its bound; 0 where the choice is proven best."""
    if choice.proven:
        return 0.0
    # The sign of the bound is turned where higher is better, so magnitudes are compared.
    return abs(abs(total) - abs(choice.bound)) / max(abs(total), 1e-300)
