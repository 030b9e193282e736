"""A solver request made ready: names checked, tasks merged, sets filtered, costs whole; and why it cannot be met."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from taskgroup.errors import GroupingError, InfeasibleError, did_you_mean
from taskgroup.grouping._bounds import Cover
from taskgroup.grouping._milp import TIE, Choice, choose, least_cost
from taskgroup.grouping._subsets import MOST_TASKS, Subsets
from taskgroup.grouping.candidates import Candidate

_LARGEST_COST = 10**9
_DIAGNOSIS = 10.0  # seconds spent at most on finding out which limit cannot be met


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
        """What answers this request for every number of groups; None where only a search can."""
        budgeted = np.isfinite(self.budget)
        if self.disjoint or budgeted or len(self.parts) > MOST_TASKS or not len(self.candidates):
            return None
        return Subsets(self._cover(np.full(len(self.costs), True), self._excess()))

    def _excess(self) -> np.ndarray:
        return np.where(np.isfinite(self.values), self.values - self.values.min(axis=0), 0.0)

    def choose(self, deadline: float, tables: Subsets | None = None) -> Choice:
        """The best choice of rows; its bound is of the weighted total, lower is better.

        ``tables`` are this request's, or those of one that differs in ``groups`` alone.
        """
        servable = np.isfinite(self.values)
        ideal = self.values.min(axis=0)
        fitting = self.costs <= self.budget
        if not servable[fitting].any(axis=0).all():
            return Choice(None, np.inf, True)
        cover = self._cover(fitting, self._excess())
        choice = choose(cover, TIE * float(np.abs(ideal).sum()), deadline, tables)
        numbers = np.flatnonzero(fitting)
        rows = None if choice.rows is None else [int(numbers[row]) for row in choice.rows]
        return Choice(rows, choice.bound + float(ideal.sum()), choice.proven)

    def _cover(self, fitting: np.ndarray, excess: np.ndarray) -> Cover:
        big = 4.0 * float(excess.max(axis=0).sum()) + 1.0
        return Cover(
            values=np.where(np.isfinite(self.values), excess, big)[fitting],
            costs=self.costs[fitting],
            budget=self.budget
            if self.budget > 0
            else np.inf,  # what fits into nothing costs nothing
            groups=min(self.groups or len(self.parts), len(self.parts), int(fitting.sum())),
            big=big,
            disjoint=self.disjoint,
        )

    def _cheapest(self, deadline: float, costs: np.ndarray) -> Choice:
        """Sets of least ``costs`` that serve every task, free of budget and number."""
        free = Cover(self.values, self.costs, np.inf, len(self.costs), np.inf, self.disjoint)
        return least_cost(free, costs, deadline)

    def why_infeasible(self, asked: float | None) -> InfeasibleError:
        """The error that names the constraint no choice can meet; ``asked`` is the budget as it was given."""
        deadline = time.monotonic() + _DIAGNOSIS
        few = self._cheapest(deadline, np.ones_like(self.costs))
        if few.rows is None and few.proven:
            return InfeasibleError(
                f"disjoint: no choice among the {len(self.candidates)} allowed sets holds every task exactly once"
            )
        if few.proven and self.groups is not None and len(few.rows) > self.groups:
            return InfeasibleError(
                f"groups={self.groups}: at least {len(few.rows)} networks are needed to serve every task"
            )
        cheap = self._cheapest(deadline, self.costs)
        if cheap.proven and cheap.rows is not None and self.costs[cheap.rows].sum() > self.budget:
            least = float(sum(_exact(self.candidates[row].cost) for row in cheap.rows))
            return InfeasibleError(
                f"budget={asked:g}: the cheapest choice that serves every task costs {least:g}"
            )
        limits = [f"groups={self.groups}"] * (self.groups is not None) + [f"budget={asked}"] * (
            asked is not None
        )
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
    weight = checked_weights(weights, tasks)
    _check_limits(budget, groups, max_group_size)
    parts = _parts(tasks, together)
    conflicts = _conflicts(tasks, apart, parts)
    kept = _filtered(candidates, parts, conflicts, max_group_size, disjoint)
    kept.sort(key=lambda c: (c.tasks, c.cost, c.key, sorted(c.scores.items())))
    values = _values(kept, parts, weight, -1.0 if higher_is_better else 1.0)
    unit, costs = whole_costs([c.cost for c in kept])
    return Request(
        candidates=tuple(kept),
        parts=parts,
        values=values,
        costs=costs,
        budget=np.inf if budget is None else math.floor(_exact(budget) / unit + Fraction(1, 10**9)),
        groups=groups,
        disjoint=disjoint,
    )


def _values(
    candidates: Sequence[Candidate],
    parts: Sequence[tuple[str, ...]],
    weight: Mapping[str, float],
    sign: float,
) -> np.ndarray:
    """[sets, parts]: signed weighted value of a part, infinite where a set cannot serve all of it."""
    column = {task: number for number, part in enumerate(parts) for task in part}
    values, found = (
        np.zeros((len(candidates), len(parts))),
        np.zeros((len(candidates), len(parts)), dtype=int),
    )
    for row, candidate in enumerate(candidates):
        for task, score in candidate.scores.items():
            values[row, column[task]] += sign * weight[task] * score
            found[row, column[task]] += 1
    return np.where(found == [len(part) for part in parts], values, np.inf)


def tasks_of(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """All task names, sorted; GroupingError where there is no candidate or a task that no network can serve."""
    if not candidates:
        raise GroupingError("the table must hold at least one set, found none")
    tasks = sorted({task for candidate in candidates for task in candidate.tasks})
    served = {task for candidate in candidates for task in candidate.scores}
    if unserved := [task for task in tasks if task not in served]:
        raise GroupingError(
            f"every task must have a score in at least one set, but '{unserved[0]}' has none"
        )
    return tuple(tasks)


def checked_weights(weights: Mapping[str, float] | None, tasks: Sequence[str]) -> dict[str, float]:
    """A weight a task, 1 where none is given."""
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
    """The tasks, those asked for together merged."""
    part = {task: {task} for task in tasks}
    for names in together:
        for task in names:
            _check_name("together", task, tasks)
        merged = set().union(*(part[task] for task in names))
        part |= dict.fromkeys(merged, merged)
    return tuple(sorted({tuple(sorted(names)) for names in part.values()}))


def _conflicts(
    tasks: Sequence[str], apart: Iterable[Sequence[str]], parts: Iterable[tuple[str, ...]]
) -> list[tuple[str, str]]:
    pairs = []
    for names in apart:
        for task in names:
            _check_name("apart", task, tasks)
        pairs += [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for a, b in pairs:
        if any(a in part and b in part for part in parts):
            raise InfeasibleError(
                f"apart '{a}', '{b}' contradicts together, which puts both into one network"
            )
    return pairs


def _filtered(
    candidates: Sequence[Candidate],
    parts: Sequence[tuple[str, ...]],
    conflicts: Sequence[tuple[str, str]],
    max_group_size: int | None,
    disjoint: bool,
) -> list[Candidate]:
    """The candidates a request allows; InfeasibleError names the first constraint that leaves a task unserved."""
    merged = [set(part) for part in parts if len(part) > 1]
    rules: list[tuple[str, Callable[[Candidate], bool]]] = [
        (
            f"max_group_size={max_group_size}",
            lambda c: max_group_size is None or len(c.tasks) <= max_group_size,
        ),
        *(
            (f"apart '{a}', '{b}'", lambda c, a=a, b=b: not {a, b} <= set(c.tasks))
            for a, b in conflicts
        ),
        ("disjoint", lambda c: not disjoint or len(c.scores) == len(c.tasks)),
        (
            "disjoint with together",
            lambda c: not disjoint or all(len(p & set(c.tasks)) in (0, len(p)) for p in merged),
        ),
    ]
    kept = list(candidates)
    for name, allows in rules:
        kept = [candidate for candidate in kept if allows(candidate)]
        served = set().union(*(c.scores for c in kept))
        for part in parts:
            if not (served.issuperset(part) and any(c.scores.keys() >= set(part) for c in kept)):
                what = (
                    f"'{part[0]}'"
                    if len(part) == 1
                    else "together " + ", ".join(f"'{task}'" for task in part)
                )
                raise InfeasibleError(
                    f"{name}: no allowed set serves {what}"
                    if kept != list(candidates)
                    else f"{what}: no set serves all of them"
                )
    return kept


def _exact(value: float) -> Fraction:
    """The decimal number that ``value`` is written as: .1 + .2 of costs then equals a budget of .3."""
    return Fraction(repr(float(value)))


def whole_costs(costs: Sequence[float]) -> tuple[Fraction, np.ndarray]:
    """A unit and the costs as whole numbers of it; costs that need more than nine digits are rounded to nine."""
    exact = {cost: _exact(cost) for cost in set(costs)}  # mostly few: fractions are slow
    unit = Fraction(1, math.lcm(*(cost.denominator for cost in exact.values())))
    unit *= math.gcd(*(int(cost / unit) for cost in exact.values())) or 1
    if max(exact.values()) / unit > _LARGEST_COST:
        unit = max(exact.values()) / _LARGEST_COST
    whole = {cost: round(fraction / unit) for cost, fraction in exact.items()}
    return unit, np.array([whole[cost] for cost in costs], dtype=float)
