"""The integer program behind `solve`: facility location for a cover, set partitioning for a partition.

- Stages: the value first; then, with the value held, the cost, the number of networks, and the ranks of the chosen sets
  in canonical order. So equal input gives the equal answer, in whatever order its rows came.
- HiGHS works on scaled excesses over the unreachable ideal (every task at its best set), so that its absolute tolerance
  of 1e-6 is far below any difference that matters.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from taskgroup.grouping._bounds import Cover, good_choice, reduce

TIE = 1e-9  # relative difference of totals that counts as none
_SCALE = 1e4  # the largest excess that matters, as HiGHS sees it


@dataclass(frozen=True)
class Choice:
    """Chosen rows (None: there is no choice, or none was found in time), a lower bound, and whether all was proven."""

    rows: list[int] | None
    bound: float
    proven: bool


@dataclass(frozen=True)
class _Program:
    """Least ``objective`` with ``low <= matrix @ variables <= high``; first the variables of sets, then of serving."""

    objective: np.ndarray
    matrix: csr_array
    low: np.ndarray
    high: np.ndarray
    costs: np.ndarray

    def on_sets(self, row: np.ndarray) -> np.ndarray:
        """``row`` over the sets, zero for the serving variables."""
        return np.pad(row.astype(float), (0, len(self.objective) - len(self.costs)))

    def at_most(self, row: np.ndarray, limit: float) -> "_Program":
        """The program with one more row: ``row @ variables <= limit``."""
        return replace(
            self,
            matrix=csr_array(vstack([self.matrix, csr_array(row[None])])),
            low=np.append(self.low, -np.inf),
            high=np.append(self.high, limit),
        )


def choose_cover(cover: Cover, slack: float, deadline: float) -> Choice:
    """The best choice in which every task is served by its best chosen set.

    ``cover`` holds excesses over each task's best value; totals within ``slack`` are ties; ``deadline`` is on the clock
    of time.monotonic().
    """
    known = good_choice(cover)
    if cover.total(known) >= cover.big:
        feasible = least_cost(cover.values < cover.big, cover, np.ones(len(cover.costs)), deadline)
        if feasible.rows is None:
            return feasible
        known = good_choice(cover, feasible.rows)
    reduction = reduce(cover, known, slack)
    kept = np.flatnonzero(reduction.sets)
    pairs = reduction.pairs[kept]
    scale = _scale(reduction.total)
    program = _cover_program(replace(cover, values=cover.values[kept] * scale, costs=cover.costs[kept]), pairs)
    answer = _stages(program, deadline)
    rows = None if answer.rows is None else [int(kept[i]) for i in answer.rows]
    if rows is None or (not answer.proven and cover.total(rows) > reduction.total):
        rows = reduction.chosen
    return Choice(rows, max(answer.bound / scale, reduction.bound), answer.proven)


def least_cost(member: np.ndarray, cover: Cover, costs: np.ndarray, deadline: float, *, once: bool = False) -> Choice:
    """The cheapest sets (by ``costs``, within the limits of ``cover``) that hold every task, or every task just once."""
    ones = np.ones(member.shape[1])
    high = ones if once else np.full(member.shape[1], np.inf)
    program = _Program(costs, csr_array(member.T.astype(float)), ones, high, cover.costs)
    return _highs(_limited(program, cover), costs, deadline)


def choose_partition(member: np.ndarray, excess: np.ndarray, cover: Cover, deadline: float) -> Choice:
    """The best choice of disjoint sets that together hold every task.

    ``member`` [sets, tasks] is 0 or 1, ``excess`` [sets] the value of a whole set, >= 0; limits as in ``cover``.
    """
    scale = _scale(excess.max())
    ones = np.ones(member.shape[1])
    program = _Program(excess * scale, csr_array(member.T.astype(float)), ones, ones, cover.costs)
    answer = _stages(_limited(program, cover), deadline)
    return Choice(answer.rows, answer.bound / scale, answer.proven)


def _scale(largest: float) -> float:
    return _SCALE / largest if largest > _SCALE * 1e-300 else 1.0


def _cover_program(cover: Cover, pairs: np.ndarray) -> _Program:
    """Variables: x_s for each set, y_st for each pair; sum_s y_st = 1 and y_st <= x_s."""
    sets, tasks = np.nonzero(pairs)
    n_sets, n_tasks, n = len(cover.costs), pairs.shape[1], len(sets)
    served = csr_array((np.ones(n), (tasks, n_sets + np.arange(n))), shape=(n_tasks, n_sets + n))
    number = np.arange(n)
    linked = csr_array(
        (np.repeat([1.0, -1.0], n), (np.tile(number, 2), np.concatenate([n_sets + number, sets]))),
        shape=(n, n_sets + n),
    )
    program = _Program(
        np.concatenate([np.zeros(n_sets), cover.values[sets, tasks]]),
        csr_array(vstack([served, linked])),
        np.concatenate([np.ones(n_tasks), np.full(n, -np.inf)]),
        np.concatenate([np.ones(n_tasks), np.zeros(n)]),
        cover.costs,
    )
    return _limited(program, cover)


def _limited(program: _Program, cover: Cover) -> _Program:
    if np.isfinite(cover.budget):
        program = program.at_most(program.on_sets(cover.costs), cover.budget)
    if cover.groups < len(cover.costs):
        program = program.at_most(program.on_sets(np.ones(len(cover.costs))), cover.groups)
    return program


def _stages(program: _Program, deadline: float) -> Choice:
    """Solve for the value, then break ties by cost, number of networks and ranks; a stage out of time is left out."""
    first = _highs(program, program.objective, deadline)
    if first.rows is None or not first.proven:
        return first
    n_sets, rows, value = len(program.costs), first.rows, first.bound
    program = program.at_most(program.objective, value + TIE * _SCALE)
    for measure in (program.costs, np.ones(n_sets), np.arange(n_sets)):
        if len(rows) > 1 or measure[rows[0]] > measure.min():
            row = program.on_sets(measure)
            answer = _highs(program, row, deadline)
            if answer.rows is None or not answer.proven:
                break
            rows = answer.rows
            program = program.at_most(row, float(measure[rows].sum()) + 0.5)
    return Choice(rows, first.bound, True)


def _highs(program: _Program, objective: np.ndarray, deadline: float) -> Choice:
    left = max(deadline - time.monotonic(), 0.01)
    n_sets = len(program.costs)
    result = milp(
        objective,
        integrality=np.arange(len(objective)) < n_sets,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(program.matrix, program.low, program.high),
        options={"mip_rel_gap": 0.0} | ({"time_limit": left} if np.isfinite(left) else {}),
    )
    rows = None if result.x is None else np.flatnonzero(result.x[:n_sets] > 0.5).tolist()
    bound = result.mip_dual_bound if result.mip_dual_bound is not None else -np.inf
    # status: 0 optimal, 1 time limit, 2 infeasible
    return Choice(rows, float(bound), result.status in (0, 2))
