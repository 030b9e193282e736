"""A solver request made ready: names checked, tasks merged, sets filtered, costs whole; and why it cannot be met."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from taskgroup.errors import GroupingError, InfeasibleError, did_you_mean
from taskgroup.grouping._bounds import Cover
from taskgroup.grouping._milp import TIE, Choice, choose, least_cost
from taskgroup.grouping._subsets import MOST_TASKS, Subsets
from taskgroup.grouping.candidates import Candidate

# Costs are whole numbers up to this one, so that sums of them are exact.
_LARGEST_COST = 10**9
# A budget may fall short of a cost by this part of the unit: .1 + .2 is not exactly .3.
_BUDGET_TOLERANCE = Fraction(1, 10**9)
# Seconds spent at most on finding out which limit cannot be met.
_DIAGNOSIS = 10.0
# What a set cannot serve is worse than every choice of sets that can, by this factor.
_BIG = 4.0


@dataclass(frozen=True)
class Request:
    """The arrays of one request.

    ``candidates`` stand in canonical order; ``parts`` are the tasks that must be served together (mostly one each);
    ``values`` [sets, parts] are weighted, lower is better, infinite where a set cannot serve the part; ``costs`` and
    ``budget`` (infinite where there is none) are whole numbers of one unit.
    """

    candidates: tuple[Candidate, ...]
    parts: tuple[tuple[str, ...], ...]
    values: np.ndarray
    costs: np.ndarray
    budget: float
    groups: int | None
    disjoint: bool

    def tables(self) -> Subsets | None:
        """Return the tables that answer this request for every number of groups; None where only a search can."""
        has_budget = np.isfinite(self.budget)
        has_few_parts = len(self.parts) <= MOST_TASKS
        if self.disjoint or has_budget or not has_few_parts or not len(self.candidates):
            return None
        everything = np.full(len(self.costs), True)
        return Subsets(self._cover(everything, self._excess()))

    def _excess(self) -> np.ndarray:
        """Return how far each value lies above the best one of its part; 0 where a set cannot serve it."""
        return np.where(np.isfinite(self.values), self.values - self.values.min(axis=0), 0.0)

    def choose(self, deadline: float, tables: Subsets | None = None) -> Choice:
        """Return the best choice of rows; its bound is of the weighted total, lower is better.

        ``tables`` are this request's, or those of one that differs in ``groups`` alone.
        """
        ideal = self.values.min(axis=0)
        fitting = self.costs <= self.budget
        served = np.isfinite(self.values[fitting]).any(axis=0)
        if not served.all():
            return Choice(None, np.inf, True)
        cover = self._cover(fitting, self._excess())
        slack = TIE * float(np.abs(ideal).sum())
        choice = choose(cover, slack, deadline, tables)
        bound = choice.bound + float(ideal.sum())
        if choice.rows is None:
            return Choice(None, bound, choice.proven)
        numbers = np.flatnonzero(fitting)
        return Choice([int(numbers[row]) for row in choice.rows], bound, choice.proven)

    def _cover(self, fitting: np.ndarray, excess: np.ndarray) -> Cover:
        big = _BIG * float(excess.max(axis=0).sum()) + 1.0
        n_parts = len(self.parts)
        return Cover(
            values=np.where(np.isfinite(self.values), excess, big)[fitting],
            costs=self.costs[fitting],
            # What fits into a budget of nothing costs nothing, so there is no limit left.
            budget=self.budget if self.budget > 0 else np.inf,
            groups=min(self.groups or n_parts, n_parts, int(fitting.sum())),
            big=big,
            disjoint=self.disjoint,
        )

    def _cheapest(self, deadline: float, costs: np.ndarray) -> Choice:
        """Return the sets of least ``costs`` that serve every task, free of budget and number."""
        free = Cover(self.values, self.costs, np.inf, len(self.costs), np.inf, self.disjoint)
        return least_cost(free, costs, deadline)

    def why_infeasible(self, asked: float | None) -> InfeasibleError:
        """Return the error that names the constraint no choice can meet; ``asked`` is the budget as it was given."""
        deadline = time.monotonic() + _DIAGNOSIS
        fewest = self._cheapest(deadline, np.ones_like(self.costs))
        if fewest.rows is None and fewest.proven:
            return InfeasibleError(
                f"disjoint: no choice among the {len(self.candidates)} allowed sets holds every task exactly once"
            )
        if fewest.proven and self.groups is not None and len(fewest.rows) > self.groups:
            return InfeasibleError(
                f"groups={self.groups}: at least {len(fewest.rows)} networks are needed to serve every task"
            )
        cheapest = self._cheapest(deadline, self.costs)
        is_known = cheapest.proven and cheapest.rows is not None
        if is_known and self.costs[cheapest.rows].sum() > self.budget:
            least = float(sum(_exact(self.candidates[row].cost) for row in cheapest.rows))
            return InfeasibleError(
                f"budget={asked:g}: the cheapest choice that serves every task costs {least:g}"
            )
        limits = []
        if self.groups is not None:
            limits.append(f"groups={self.groups}")
        if asked is not None:
            limits.append(f"budget={asked}")
        return InfeasibleError(
            f"{' with '.join(limits)}: no choice of sets within it serves every task"
        )


def prepare(
    candidates: Sequence[Candidate],
    *,
    budget: float | None,
    groups: int | None,
    disjoint: bool,
    weights: Mapping[str, float] | None,
    max_group_size: int | None,
    together: Iterable[Sequence[str]],
    apart: Iterable[Sequence[str]],
    higher_is_better: bool,
) -> Request:
    """Check a request and turn it into arrays; errors name the option, the rule and what was found."""
    tasks = tasks_of(candidates)
    weight_of = checked_weights(weights, tasks)
    _check_limits(budget, groups, max_group_size)
    parts = _parts(tasks, together)
    conflicts = _conflicts(tasks, apart, parts)
    allowed = _filtered(candidates, parts, conflicts, max_group_size, disjoint)
    allowed.sort(key=lambda c: (c.tasks, c.cost, c.key, sorted(c.scores.items())))
    unit, costs = whole_costs([candidate.cost for candidate in allowed])
    whole_budget = np.inf
    if budget is not None:
        whole_budget = math.floor(_exact(budget) / unit + _BUDGET_TOLERANCE)
    return Request(
        candidates=tuple(allowed),
        parts=parts,
        values=_values(allowed, parts, weight_of, -1.0 if higher_is_better else 1.0),
        costs=costs,
        budget=whole_budget,
        groups=groups,
        disjoint=disjoint,
    )


def _values(
    candidates: Sequence[Candidate],
    parts: Sequence[tuple[str, ...]],
    weight_of: Mapping[str, float],
    sign: float,
) -> np.ndarray:
    """Return [sets, parts]: signed weighted value of a part, infinite where a set cannot serve all of it."""
    column = {task: number for number, part in enumerate(parts) for task in part}
    values = np.zeros((len(candidates), len(parts)))
    n_scores = np.zeros(values.shape, dtype=int)
    for row, candidate in enumerate(candidates):
        for task, score in candidate.scores.items():
            values[row, column[task]] += sign * weight_of[task] * score
            n_scores[row, column[task]] += 1
    is_complete = n_scores == [len(part) for part in parts]
    return np.where(is_complete, values, np.inf)


def tasks_of(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Return all task names, sorted.

    Raises GroupingError where there is no candidate, or a task that no network can serve.
    """
    if not candidates:
        raise GroupingError("the table must hold at least one set, found none")
    tasks = sorted({task for candidate in candidates for task in candidate.tasks})
    served = {task for candidate in candidates for task in candidate.scores}
    for task in tasks:
        if task not in served:
            raise GroupingError(
                f"every task must have a score in at least one set, but '{task}' has none"
            )
    return tuple(tasks)


def checked_weights(weights: Mapping[str, float] | None, tasks: Sequence[str]) -> dict[str, float]:
    """Return a weight for each task, 1 where none is given."""
    given = dict(weights or {})
    for task, weight in given.items():
        _check_name("weights", task, tasks)
        if not (math.isfinite(weight) and weight >= 0):
            raise GroupingError(
                f"weights: the weight of '{task}' must be a number >= 0, found {weight}"
            )
    return {task: float(given.get(task, 1.0)) for task in tasks}


def _check_name(option: str, task: str, tasks: Sequence[str]) -> None:
    if task not in tasks:
        raise GroupingError(f"{option}: no set holds a task '{task}', {did_you_mean(task, tasks)}")


def _check_limits(budget: float | None, groups: int | None, max_group_size: int | None) -> None:
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        raise GroupingError(f"budget must be a number >= 0, found {budget}")
    for name, value in (("groups", groups), ("max_group_size", max_group_size)):
        if value is not None and value < 1:
            raise GroupingError(f"{name} must be at least 1, found {value}")


def _parts(tasks: Sequence[str], together: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the tasks, those asked for together merged."""
    part_of = {task: {task} for task in tasks}
    for names in together:
        for task in names:
            _check_name("together", task, tasks)
        merged = set().union(*(part_of[task] for task in names))
        for task in merged:
            part_of[task] = merged
    return tuple(sorted({tuple(sorted(part)) for part in part_of.values()}))


def _conflicts(
    tasks: Sequence[str], apart: Iterable[Sequence[str]], parts: Iterable[tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Return the pairs of tasks that no network may hold."""
    pairs = []
    for names in apart:
        for task in names:
            _check_name("apart", task, tasks)
        pairs += combinations(names, 2)
    for a, b in pairs:
        if any(a in part and b in part for part in parts):
            raise InfeasibleError(
                f"apart '{a}', '{b}' contradicts together, which puts both into one network"
            )
    return pairs


Rule = tuple[str, Callable[[Candidate], bool]]


def _filtered(
    candidates: Sequence[Candidate],
    parts: Sequence[tuple[str, ...]],
    conflicts: Sequence[tuple[str, str]],
    max_group_size: int | None,
    disjoint: bool,
) -> list[Candidate]:
    """Return the candidates a request allows.

    Raises InfeasibleError that names the first constraint which leaves a task unserved.
    """
    allowed = list(candidates)
    for name, allows in _rules(parts, conflicts, max_group_size, disjoint):
        allowed = [candidate for candidate in allowed if allows(candidate)]
        unserved = _unserved(parts, allowed)
        if unserved is None:
            continue
        if len(allowed) == len(candidates):
            raise InfeasibleError(f"{unserved}: no set serves all of them")
        raise InfeasibleError(f"{name}: no allowed set serves {unserved}")
    return allowed


def _rules(
    parts: Sequence[tuple[str, ...]],
    conflicts: Sequence[tuple[str, str]],
    max_group_size: int | None,
    disjoint: bool,
) -> list[Rule]:
    """Return the constraints on single sets, each with the name that an error gives it."""

    def is_small_enough(candidate: Candidate) -> bool:
        return max_group_size is None or len(candidate.tasks) <= max_group_size

    def serves_all_it_holds(candidate: Candidate) -> bool:
        return len(candidate.scores) == len(candidate.tasks)

    merged = [set(part) for part in parts if len(part) > 1]

    def holds_whole_parts(candidate: Candidate) -> bool:
        shared = [len(part.intersection(candidate.tasks)) for part in merged]
        return all(n in (0, len(part)) for n, part in zip(shared, merged, strict=True))

    rules: list[Rule] = [(f"max_group_size={max_group_size}", is_small_enough)]
    for a, b in conflicts:
        rules.append((f"apart '{a}', '{b}'", lambda c, a=a, b=b: not {a, b} <= set(c.tasks)))
    if disjoint:
        rules.append(("disjoint", serves_all_it_holds))
        rules.append(("disjoint with together", holds_whole_parts))
    return rules


def _unserved(parts: Sequence[tuple[str, ...]], allowed: Sequence[Candidate]) -> str | None:
    """Return the first part that no candidate serves, in words; None where all are served."""
    served = set().union(*(candidate.scores for candidate in allowed))
    for part in parts:
        if len(part) == 1:
            if part[0] not in served:
                return f"'{part[0]}'"
        elif not any(candidate.scores.keys() >= set(part) for candidate in allowed):
            return "together " + ", ".join(f"'{task}'" for task in part)
    return None


def _exact(value: float) -> Fraction:
    """Return the decimal number that ``value`` is written as: .1 + .2 of costs then equals a budget of .3."""
    return Fraction(repr(float(value)))


def whole_costs(costs: Sequence[float]) -> tuple[Fraction, np.ndarray]:
    """Return a unit and the costs as whole numbers of it; costs of more than nine digits are rounded to nine."""
    # Most tables have a few different costs only, and fractions are slow.
    exact = {cost: _exact(cost) for cost in set(costs)}
    largest = max(exact.values())
    unit = Fraction(1, math.lcm(*(cost.denominator for cost in exact.values())))
    # All costs may be multiples of a larger unit; there is none where all are 0.
    unit *= math.gcd(*(int(cost / unit) for cost in exact.values())) or 1
    if largest / unit > _LARGEST_COST:
        unit = largest / _LARGEST_COST
    whole = {cost: round(fraction / unit) for cost, fraction in exact.items()}
    return unit, np.array([whole[cost] for cost in costs], dtype=float)
