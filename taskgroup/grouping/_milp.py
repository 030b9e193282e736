"""What is left to integer programming (scipy's HiGHS) around the search: feasibility, least cost, crowds of ties.

- Of choices of equal value the cheapest is taken, then the one of fewest networks, then of lowest ranks in canonical
  order; so equal input gives the equal answer, in whatever order its rows came.
- HiGHS works on scaled excesses, so that its absolute tolerance of 1e-6 is far below any difference that matters.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from taskgroup.grouping._bounds import Cover, good_choice, good_partition
from taskgroup.grouping._search import Found, part_of_time, search
from taskgroup.grouping._subsets import Subsets

# A relative difference of totals that counts as none.
TIE = 1e-9
# The largest excess that matters, as HiGHS sees it.
_SCALE = 1e4
# With a time limit, the share of the remaining time that the first choice may take.
_FIRST_SHARE = 0.3
# Swaps do not improve partitions, so with a time limit HiGHS looks for a better one for this share of the time.
_PARTITION_SHARE = 0.6
# HiGHS looks at the clock only after it has taken in the program, at about this speed.
_PAIRS_PER_SECOND = 2e4
# Adding up a sum of costs again must not make it seem larger.
_SAFETY = 0.5


@dataclass(frozen=True)
class Choice:
    """Chosen rows (None: there is no choice, or none was found in time), a lower bound, and whether all was proven."""

    rows: list[int] | None
    bound: float
    proven: bool


def choose(cover: Cover, slack: float, deadline: float, tables: Subsets | None = None) -> Choice:
    """Return the best choice in which every task is served by its best chosen set.

    ``cover`` holds excesses over each task's best value; totals within ``slack`` are ties; ``deadline`` is on the clock
    of time.monotonic(); ``tables`` are of this cover, or one that differs in the number of groups alone.
    """
    if tables is not None:
        if tables.least_total(cover.groups) >= cover.big:
            return Choice(None, np.inf, True)
        choices = tables.choices(cover.groups, slack)
        if choices is not None:
            rows = _first(cover, choices)
            return Choice(rows, cover.total(rows), True)
    first = _first_choice(cover, deadline)
    if first.rows is None:
        return first
    found = search(cover, first.rows, slack, deadline)
    if found.ended and found.crowded:
        rows = _cheapest_tie(cover, found, slack, deadline)
    else:
        rows = _first(cover, found.choices)
    return Choice(rows, max(found.bound, first.bound), found.ended)


def _first_choice(cover: Cover, deadline: float) -> Choice:
    """Return some choice that serves every task, good if that is quick; its bound is of the totals."""
    if cover.disjoint:
        return _first_partition(cover, deadline)
    first_deadline = part_of_time(deadline, _FIRST_SHARE)
    greedy = good_choice(cover, first_deadline)
    if cover.total(greedy) < cover.big:
        return Choice(greedy, 0.0, False)
    fewest = least_cost(cover, np.ones(len(cover.costs)), deadline)
    if fewest.rows is None:
        return fewest
    return Choice(good_choice(cover, first_deadline, fewest.rows), 0.0, False)


def _first_partition(cover: Cover, deadline: float) -> Choice:
    """Return some partition; with a time limit the best that HiGHS makes of it in a part of the time."""
    rows = good_partition(cover)
    if not rows:
        fewest = least_cost(cover, np.ones(len(cover.costs)), deadline)
        if fewest.rows is None:
            return fewest
        rows = fewest.rows
    n_pairs = int((cover.values < cover.big).sum())
    seconds = _PARTITION_SHARE * (deadline - time.monotonic())
    if math.isinf(deadline) or seconds < n_pairs / _PAIRS_PER_SECOND:
        return Choice(rows, 0.0, False)
    return _better_partition(cover, rows, part_of_time(deadline, _PARTITION_SHARE))


def _better_partition(cover: Cover, rows: list[int], deadline: float) -> Choice:
    """Return the best partition that HiGHS finds in a limited time, with its bound."""
    largest = cover.values[cover.values < cover.big].max(initial=0.0)
    scale = _SCALE / largest if largest > 0 else 1.0
    scaled = replace(cover, values=cover.values * scale, big=cover.big * scale)
    program = _partition_program(scaled).within(cover)
    answer = _highs(program, program.objective, len(cover.costs), deadline)
    # HiGHS is right to 1e-6 of scaled values; the bound is lowered by that, so that it stays one.
    bound = max((answer.bound - 1e-6 * abs(answer.bound)) / scale, 0.0)
    if answer.rows is not None and cover.total(answer.rows) < cover.total(rows):
        rows = answer.rows
    return Choice(rows, bound, False)


def _first(cover: Cover, choices: Sequence[list[int]]) -> list[int]:
    """Return the choice of least cost among those of equal value, then of fewest sets, then of lowest ranks."""
    return min(choices, key=lambda rows: (cover.costs[rows].sum(), len(rows), sum(rows), rows))


def least_cost(cover: Cover, costs: np.ndarray, deadline: float) -> Choice:
    """Return the sets of least ``costs`` that hold every task (in a partition once) within the limits of ``cover``."""
    member = cover.values < cover.big
    n_tasks = member.shape[1]
    if cover.disjoint:
        rows = np.arange(len(costs))
        highest = np.ones(n_tasks)
    else:
        rows = _undominated(member, costs, cover.costs)
        highest = np.full(n_tasks, np.inf)
    holding = csr_array(member[rows].T.astype(float))
    program = _Program(costs[rows], holding, np.ones(n_tasks), highest)
    limited = program.within(replace(cover, costs=cover.costs[rows]))
    answer = _highs(limited, costs[rows], len(rows), deadline)
    if answer.rows is None:
        return answer
    return replace(answer, rows=[int(rows[i]) for i in answer.rows])


def _undominated(member: np.ndarray, *costs: np.ndarray) -> np.ndarray:
    """Return the sets that are no part of another one that costs no more (of equal ones the first)."""
    remaining: list[int] = []
    for index in np.lexsort((*costs, -member.sum(axis=1))):
        contains_it = (member[remaining] >= member[index]).all(axis=1)
        for cost in costs:
            contains_it &= cost[remaining] <= cost[index]
        if not contains_it.any():
            remaining.append(int(index))
    return np.sort(remaining)


@dataclass(frozen=True)
class _Program:
    """Least ``objective`` with ``low <= matrix @ variables <= high``; the first variables choose sets."""

    objective: np.ndarray
    matrix: csr_array
    low: np.ndarray
    high: np.ndarray

    def at_most(self, row: np.ndarray, limit: float) -> "_Program":
        """Return the program with one more row: ``row @ variables <= limit``; a short row is filled up with zeros."""
        whole_row = np.pad(row.astype(float), (0, len(self.objective) - len(row)))
        matrix = csr_array(vstack([self.matrix, csr_array(whole_row[None])]))
        low = np.append(self.low, -np.inf)
        high = np.append(self.high, limit)
        return _Program(self.objective, matrix, low, high)

    def within(self, cover: Cover) -> "_Program":
        """Return the program with the limits of ``cover``."""
        program = self
        if np.isfinite(cover.budget):
            program = program.at_most(cover.costs, cover.budget)
        return program.at_most(np.ones(len(cover.costs)), cover.groups)


def _cheapest_tie(cover: Cover, found: Found, slack: float, deadline: float) -> list[int]:
    """Return the choice of least cost among those of least total, then of fewest sets, then of lowest ranks."""
    is_scalable = found.total > _SCALE * 1e-300
    scale = _SCALE / found.total if is_scalable else 1.0
    scaled = replace(cover, values=cover.values * scale, big=cover.big * scale)
    if cover.disjoint:
        program = _partition_program(scaled)
    else:
        program = _cover_program(scaled, cover.values <= found.total + slack)
    program = program.within(cover)
    program = program.at_most(program.objective, found.total * scale + TIE * _SCALE)
    rows = found.choices[0]
    n_sets = len(cover.costs)
    for measure in (cover.costs, np.ones(n_sets), np.arange(n_sets)):
        objective = np.pad(measure.astype(float), (0, len(program.objective) - n_sets))
        answer = _highs(program, objective, n_sets, deadline)
        if answer.rows is None or not answer.proven:
            break
        rows = answer.rows
        program = program.at_most(measure, float(measure[rows].sum()) + _SAFETY)
    return rows


def _partition_program(cover: Cover) -> _Program:
    """Return the program with a variable x_s for each set, in which every task is in one chosen set."""
    member = cover.values < cover.big
    ones = np.ones(member.shape[1])
    totals = np.where(member, cover.values, 0.0).sum(axis=1)
    return _Program(totals, csr_array(member.T.astype(float)), ones, ones)


def _cover_program(cover: Cover, pairs: np.ndarray) -> _Program:
    """Return the program with x_s for each set and y_st for each pair; sum_s y_st = 1 and y_st <= x_s."""
    sets, tasks = np.nonzero(pairs)
    n_sets, n_tasks, n_pairs = len(cover.costs), pairs.shape[1], len(sets)
    number = np.arange(n_pairs)
    ones = np.ones(n_pairs)
    served = csr_array((ones, (tasks, n_sets + number)), shape=(n_tasks, n_sets + n_pairs))
    coefficients = np.concatenate([ones, -ones])
    rows = np.concatenate([number, number])
    columns = np.concatenate([n_sets + number, sets])
    opened = csr_array((coefficients, (rows, columns)), shape=(n_pairs, n_sets + n_pairs))
    return _Program(
        objective=np.concatenate([np.zeros(n_sets), cover.values[sets, tasks]]),
        matrix=csr_array(vstack([served, opened])),
        low=np.concatenate([np.ones(n_tasks), np.full(n_pairs, -np.inf)]),
        high=np.concatenate([np.ones(n_tasks), np.zeros(n_pairs)]),
    )


def _highs(program: _Program, objective: np.ndarray, n_sets: int, deadline: float) -> Choice:
    """Return the answer of HiGHS; the first ``n_sets`` variables are whole numbers and choose sets."""
    options = {"mip_rel_gap": 0.0}
    seconds_left = max(deadline - time.monotonic(), 0.01)
    if np.isfinite(seconds_left):
        options["time_limit"] = seconds_left
    result = milp(
        objective,
        integrality=np.arange(len(objective)) < n_sets,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(program.matrix, program.low, program.high),
        options=options,
    )
    rows = None
    if result.x is not None:
        rows = np.flatnonzero(result.x[:n_sets] > 0.5).tolist()
    bound = -np.inf if result.mip_dual_bound is None else float(result.mip_dual_bound)
    # Status 0 is optimal, 2 infeasible.
    return Choice(rows, bound, result.status in (0, 2))
