"""The best assembly for each of many draws of all values at once, by dynamic programming over the sets of tasks."""

import numpy as np

from taskgroup.errors import InfeasibleError
from taskgroup.grouping._subsets import MOST_TASKS, splits
from taskgroup.grouping.candidates import Candidate
from taskgroup.grouping.solve import solve_each

# Stands for "this network cannot serve this task": far below any value, yet finite, so that sums stay finite.
_NEVER = -1e9


def best_covers(
    values: np.ndarray, prices: np.ndarray, most: int | None = None, disjoint: bool = False
) -> np.ndarray:
    """Return which network serves each task in the best assembly of each draw, int [draws, tasks].

    Args:
        values: [draws, networks, tasks], larger is better; NaN where a network cannot serve a task.
        prices: [networks], subtracted once for each network that is chosen.
        most: number of networks at most.
        disjoint: chosen networks must not share a task.

    The best assembly has the largest sum of served values less prices. Raises InfeasibleError where no choice serves
    every task.
    """
    n_tasks = values.shape[2]
    servable = np.isfinite(values[0]).any(axis=0)
    if not servable.all():
        raise InfeasibleError(
            "at least one network must hold each target, but some target has none"
        )
    unlimited = most is None or most >= n_tasks
    if unlimited and not disjoint and not prices.any():
        return np.nanargmax(np.where(np.isnan(values), _NEVER, values), axis=1)
    if n_tasks > MOST_TASKS:
        return np.stack([_solved(draw, prices, most, disjoint) for draw in values])
    single, network = _best_single(np.where(np.isnan(values), _NEVER, values), prices, disjoint)
    tables = _tables(single, None if unlimited else most)
    if tables[-1][:, -1].max() < _NEVER / 2:
        raise InfeasibleError(f"no choice of at most {most} networks holds every target")
    return _traced(single, network, tables)


def _best_single(
    values: np.ndarray, prices: np.ndarray, disjoint: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the value and the number of the best network for each set of tasks that it is to serve, [draws, sets]."""
    n_draws, n_networks, n_tasks = values.shape
    codes = np.arange(1 << n_tasks)
    bits = ((codes[:, None] >> np.arange(n_tasks)) & 1).astype(float)
    allowed = np.zeros((n_networks, len(codes)))
    if disjoint:
        own = (values[0] > _NEVER / 2) @ (1 << np.arange(n_tasks))
        allowed[own[:, None] != codes] = _NEVER
    allowed -= prices[:, None]
    single = np.empty((n_draws, len(codes)))
    network = np.empty((n_draws, len(codes)), dtype=int)
    for draw in range(n_draws):
        totals = values[draw] @ bits.T + allowed
        network[draw] = totals.argmax(axis=0)
        single[draw] = totals[network[draw], codes]
    return single, network


def _tables(single: np.ndarray, most: int | None) -> list[np.ndarray]:
    """Return best totals [draws, sets of tasks]: by at most 0, 1, ... networks, or only one table for any number."""
    n_draws, n_sets = single.shape
    n_tasks = n_sets.bit_length() - 1
    whole, part, starts = splits(n_tasks)
    nothing = np.full((n_draws, n_sets), _NEVER)
    nothing[:, 0] = 0.0
    if most is None:
        best = nothing
        ends = [*starts[1:], len(whole)]
        for code, start, end in zip(range(1, n_sets), starts, ends, strict=True):
            parts = part[start:end]
            best[:, code] = (single[:, parts] + best[:, code ^ parts]).max(axis=1)
        return [best]
    tables = [nothing]
    for _ in range(most):
        totals = single[:, part] + tables[-1][:, whole ^ part]
        best = np.zeros((n_draws, n_sets))
        best[:, 1:] = np.maximum.reduceat(totals, starts, axis=1)
        tables.append(np.maximum(best, tables[-1]))
    return tables


def _traced(single: np.ndarray, network: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    """Return the serving networks [draws, tasks] that the tables' best totals come from."""
    n_draws, n_sets = single.shape
    n_tasks = n_sets.bit_length() - 1
    _, part, starts = splits(n_tasks)
    ends = [*starts[1:], len(part)]
    serving = np.empty((n_draws, n_tasks), dtype=int)
    for draw in range(n_draws):
        left, level = n_sets - 1, len(tables) - 1
        while left:
            # With one table for any number of networks, every step reads that table.
            rest = tables[max(level - 1, 0)][draw]
            parts = part[starts[left - 1] : ends[left - 1]]
            chosen = parts[np.argmax(single[draw, parts] + rest[left ^ parts])]
            for task in range(n_tasks):
                if chosen >> task & 1:
                    serving[draw, task] = network[draw, chosen]
            left ^= int(chosen)
            level -= 1
    return serving


def _solved(values: np.ndarray, prices: np.ndarray, most: int | None, disjoint: bool) -> np.ndarray:
    """Return the serving networks of one draw by the exact solver, for more tasks than the tables can hold."""
    n_networks, n_tasks = values.shape
    names = [f"{task:04d}" for task in range(n_tasks)]
    candidates = []
    for number in range(n_networks):
        known = np.flatnonzero(np.isfinite(values[number]))
        scores = {names[task]: float(values[number, task]) for task in known}
        candidates.append(Candidate(tuple(scores), scores, key=str(number)))
    best, best_total = None, -np.inf
    limit = min(most or n_tasks, n_tasks)
    for solution in solve_each(candidates, limit, disjoint=disjoint, higher_is_better=True):
        total = solution.total - sum(prices[int(group.key)] for group in solution.groups)
        if total > best_total:
            best, best_total = solution, total
    if best is None:
        raise InfeasibleError(f"no choice of at most {most} networks holds every target")
    serving = np.empty(n_tasks, dtype=int)
    for group in best.groups:
        for name in group.serves:
            serving[int(name)] = int(group.key)
    return serving
