"""What is left to integer programming (scipy's HiGHS) around the search: feasibility, least cost, crowds of ties.

- Of choices of equal value the cheapest is taken, then the one of fewest networks, then of lowest ranks in canonical
  order; so equal input gives the equal answer, in whatever order its rows came.
- HiGHS works on scaled excesses, so that its absolute tolerance of 1e-6 is far below any difference that matters.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from taskgroup.grouping._bounds import Cover, good_choice
from taskgroup.grouping._search import Found, search
from taskgroup.grouping._subsets import Subsets

TIE = 1e-9  # relative difference of totals that counts as none
_SCALE = 1e4  # the largest excess that matters, as HiGHS sees it


@dataclass(frozen=True)
class Choice:
    """Chosen rows (None: there is no choice, or none was found in time), a lower bound, and whether all was proven."""

    rows: list[int] | None
    bound: float
    proven: bool


def choose(cover: Cover, slack: float, deadline: float, tables: Subsets | None = None) -> Choice:
    """The best choice in which every task is served by its best chosen set.

    ``cover`` holds excesses over each task's best value; totals within ``slack`` are ties; ``deadline`` is on the clock
    of time.monotonic(); ``tables`` are of this cover, or one that differs in the number of groups alone.
    """
    if tables is not None:
        if tables.least_total(cover.groups) >= cover.big:
            return Choice(None, np.inf, True)
        if (choices := tables.choices(cover.groups, slack)) is not None:
            rows = _first(cover, choices)
            return Choice(rows, cover.total(rows), True)
    known = [] if cover.disjoint else good_choice(cover, deadline)
    if cover.total(known) >= cover.big:
        first = least_cost(cover, np.ones(len(cover.costs)), deadline)
        if first.rows is None:
            return first
        known = first.rows if cover.disjoint else good_choice(cover, deadline, first.rows)
    found = search(cover, known, slack, deadline)
    if found.ended and found.crowded:
        rows = _cheapest_tie(cover, found, slack, deadline)
    else:
        rows = _first(cover, found.choices)
    return Choice(rows, found.bound, found.ended)


def _first(cover: Cover, choices: Sequence[list[int]]) -> list[int]:
    """Of choices of equal value the one of least cost, then fewest sets, then lowest ranks."""
    return min(choices, key=lambda rows: (cover.costs[rows].sum(), len(rows), sum(rows), rows))


def least_cost(cover: Cover, costs: np.ndarray, deadline: float) -> Choice:
    """The sets of least ``costs`` that hold every task (in a partition once) within the limits of ``cover``."""
    member = cover.values < cover.big
    kept = np.arange(len(costs)) if cover.disjoint else _undominated(member, costs, cover.costs)
    highest = np.ones(member.shape[1]) if cover.disjoint else np.full(member.shape[1], np.inf)
    program = _Program(
        costs[kept], csr_array(member[kept].T.astype(float)), np.ones(member.shape[1]), highest
    )
    answer = _highs(
        program.within(replace(cover, costs=cover.costs[kept])), costs[kept], len(kept), deadline
    )
    return replace(
        answer, rows=None if answer.rows is None else [int(kept[i]) for i in answer.rows]
    )


def _undominated(member: np.ndarray, *costs: np.ndarray) -> np.ndarray:
    """Sets that are no part of another one that costs no more (of equal ones the first)."""
    kept: list[int] = []
    for index in np.lexsort((*costs, -member.sum(axis=1))):
        larger = (member[kept] >= member[index]).all(axis=1)
        for cost in costs:
            larger &= cost[kept] <= cost[index]
        if not larger.any():
            kept.append(int(index))
    return np.sort(kept)


@dataclass(frozen=True)
class _Program:
    """Least ``objective`` with ``low <= matrix @ variables <= high``; the first variables choose sets."""

    objective: np.ndarray
    matrix: csr_array
    low: np.ndarray
    high: np.ndarray

    def at_most(self, row: np.ndarray, limit: float) -> "_Program":
        """One more row: ``row @ variables <= limit``; a row over the sets is filled up with zeros."""
        row = np.pad(row.astype(float), (0, len(self.objective) - len(row)))
        matrix = csr_array(vstack([self.matrix, csr_array(row[None])]))
        return _Program(
            self.objective, matrix, np.append(self.low, -np.inf), np.append(self.high, limit)
        )

    def within(self, cover: Cover) -> "_Program":
        """With the limits of ``cover``."""
        program = self.at_most(cover.costs, cover.budget) if np.isfinite(cover.budget) else self
        return program.at_most(np.ones(len(cover.costs)), cover.groups)


def _cheapest_tie(cover: Cover, found: Found, slack: float, deadline: float) -> list[int]:
    """Of the choices of least total the one of least cost, then fewest sets, then lowest ranks."""
    scale = _SCALE / found.total if found.total > _SCALE * 1e-300 else 1.0
    pairs = cover.values <= found.total + slack
    scaled = replace(cover, values=cover.values * scale, big=cover.big * scale)
    program = _partition_program(scaled) if cover.disjoint else _cover_program(scaled, pairs)
    program = program.within(cover).at_most(program.objective, found.total * scale + TIE * _SCALE)
    rows, n_sets = found.choices[0], len(cover.costs)
    for measure in (cover.costs, np.ones(n_sets), np.arange(n_sets)):
        objective = np.pad(measure.astype(float), (0, len(program.objective) - n_sets))
        answer = _highs(program, objective, n_sets, deadline)
        if answer.rows is None or not answer.proven:
            break
        rows = answer.rows
        program = program.at_most(measure, float(measure[rows].sum()) + 0.5)
    return rows


def _partition_program(cover: Cover) -> _Program:
    """Variables: x_s for each set; every task is in one chosen set."""
    member = cover.values < cover.big
    ones = np.ones(member.shape[1])
    return _Program(
        np.where(member, cover.values, 0.0).sum(axis=1),
        csr_array(member.T.astype(float)),
        ones,
        ones,
    )


def _cover_program(cover: Cover, pairs: np.ndarray) -> _Program:
    """Variables: x_s for each set, y_st for each pair; sum_s y_st = 1 and y_st <= x_s."""
    sets, tasks = np.nonzero(pairs)
    n_sets, n_tasks, n = len(cover.costs), pairs.shape[1], len(sets)
    number = np.arange(n)
    served = csr_array((np.ones(n), (tasks, n_sets + number)), shape=(n_tasks, n_sets + n))
    entries = (
        np.repeat([1.0, -1.0], n),
        (np.tile(number, 2), np.concatenate([n_sets + number, sets])),
    )
    return _Program(
        np.concatenate([np.zeros(n_sets), cover.values[sets, tasks]]),
        csr_array(vstack([served, csr_array(entries, shape=(n, n_sets + n))])),
        np.concatenate([np.ones(n_tasks), np.full(n, -np.inf)]),
        np.concatenate([np.ones(n_tasks), np.zeros(n)]),
    )


def _highs(program: _Program, objective: np.ndarray, n_sets: int, deadline: float) -> Choice:
    left = max(deadline - time.monotonic(), 0.01)
    result = milp(
        objective,
        integrality=np.arange(len(objective)) < n_sets,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(program.matrix, program.low, program.high),
        options={"mip_rel_gap": 0.0} | ({"time_limit": left} if np.isfinite(left) else {}),
    )
    rows = None if result.x is None else np.flatnonzero(result.x[:n_sets] > 0.5).tolist()
    bound = -np.inf if result.mip_dual_bound is None else float(result.mip_dual_bound)
    return Choice(rows, bound, result.status in (0, 2))  # 0: optimal, 2: infeasible
