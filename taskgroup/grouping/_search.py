"""The exact search for a cover or partition: branch and bound on Lagrangian bounds, the last choices one by one.

A node costs a few matrix operations, and every choice as good as the best is seen, so that ties can be broken by rule.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from taskgroup.grouping._bounds import Cover, Prices, best_prices, good_choice, relax, without_idle

# So many choices are compared one by one instead of branching.
_FEW = 3000
# Price steps per node: children start from their parent's prices, so a few are enough.
_NODE_STEPS = 12
# Choices as good as the best that are remembered; beyond it the ties are left to integer programming.
_TIES = 200
# With a time limit, the share of the remaining time that the first bound may take.
_BOUND_SHARE = 0.6
# Sets above which the number of choices is not counted: it is never few.
_UNCOUNTED = 10**4


@dataclass(frozen=True)
class Found:
    """The choices of least total, a proven bound, whether the search ended, and whether more ties exist than kept."""

    choices: list[list[int]]
    total: float
    bound: float
    ended: bool
    crowded: bool


@dataclass(frozen=True)
class _Node:
    """Sets taken, the best value of each task among them, the sets that may follow, and what is left to spend."""

    taken: list[int]
    best: np.ndarray
    open: np.ndarray
    groups: int
    budget: float


def search(cover: Cover, known: list[int], slack: float, deadline: float) -> Found:
    """Return all best choices (up to a limit) of a cover.

    Totals within ``slack`` are equal. ``known`` is a first choice and may be empty.
    """
    run = _Search(cover, slack, deadline)
    everything = np.arange(len(cover.costs))
    run.record(known)
    bound_deadline = part_of_time(deadline, _BOUND_SHARE)
    prices = best_prices(cover, min(run.total, run.highest), slack, bound_deadline)
    if not cover.disjoint:
        tolls = prices.budget * cover.shares()
        relaxed = relax(cover, everything, tolls, prices.tasks, cover.groups)
        run.record(good_choice(cover, deadline, _affordable(cover, relaxed.picked)))
    nothing = np.full(cover.values.shape[1], cover.big)
    run.visit(_Node([], nothing, everything, cover.groups, cover.budget), prices)
    bound = run.total if run.ended else max(prices.bound, 0.0)
    choices = [list(choice) for choice in run.choices]
    return Found(choices, run.total, bound, run.ended, run.crowded)


def part_of_time(deadline: float, share: float) -> float:
    """Return the moment at which a share of the time until a deadline (perhaps infinite) is over."""
    now = time.monotonic()
    return now + share * max(deadline - now, 0.0)


def _affordable(cover: Cover, picked: np.ndarray) -> list[int]:
    spent = np.cumsum(cover.costs[picked])
    return picked[spent <= cover.budget].tolist()


class _Search:
    """The best choices so far, and the branching that looks for better ones."""

    def __init__(self, cover: Cover, slack: float, deadline: float) -> None:
        self.cover = cover
        self.slack = slack
        self.deadline = deadline
        self.shares = cover.shares()
        self.total = math.inf
        self.ended = True
        self.crowded = False
        self.choices: set[tuple[int, ...]] = set()
        # No choice that serves every task is worse than each task at the worst set that can serve it.
        servable = np.where(cover.values < cover.big, cover.values, 0.0)
        self.highest = float(servable.max(axis=0).sum())

    @property
    def limit(self) -> float:
        """A branch with a bound above this ends: it holds nothing as good, or with crowded ties nothing better."""
        best = min(self.total, self.highest)
        return best - self.slack if self.crowded else best + self.slack

    def record(self, chosen: list[int]) -> None:
        """Remember a choice if it is as good as the best; forget the others where it is better."""
        total = self.cover.total(chosen)
        if total < self.total - self.slack and total < self.cover.big:
            self.choices = set()
            self.crowded = False
        if total <= self.limit:
            self.total = min(self.total, total)
            self.choices.add(tuple(without_idle(self.cover, chosen)))
            self.crowded = self.crowded or len(self.choices) >= _TIES

    def visit(self, node: _Node, prices: Prices) -> None:
        """Visit all choices that extend a node: with the most promising set, then without it, and so on."""
        while True:
            node = self._useful(node)
            if float(node.best.sum()) <= self.limit:
                self.record(node.taken)
            if not len(node.open) or node.groups == 0:
                return
            if _count(len(node.open), node.groups) <= _FEW:
                self._compare(node)
                return
            if time.monotonic() > self.deadline:
                self.ended = False
                return
            step = self._bound(node, prices)
            if step is None:
                return
            node, prices, pick = step
            self.visit(self._take(node, pick), prices)
            node = replace(node, open=node.open[node.open != pick])

    def _useful(self, node: _Node) -> _Node:
        """Return the node without sets that cost too much or improve no task.

        In a partition, sets that hold a task taken before leave too.
        """
        values = self.cover.values[node.open]
        improves = (values < node.best).any(axis=1)
        useful = improves & (self.cover.costs[node.open] <= node.budget)
        if self.cover.disjoint:
            served = node.best < self.cover.big
            useful &= (values[:, served] == self.cover.big).all(axis=1)
        return node if useful.all() else replace(node, open=node.open[useful])

    def _take(self, node: _Node, pick: int) -> _Node:
        return _Node(
            [*node.taken, pick],
            np.minimum(node.best, self.cover.values[pick]),
            node.open[node.open != pick],
            node.groups - 1,
            node.budget - float(self.cover.costs[pick]),
        )

    def _bound(self, node: _Node, prices: Prices) -> tuple[_Node, Prices, int] | None:
        """Return the node without sets that are in no choice as good, its prices, and the set to branch on.

        None where nothing is left.
        """
        has_budget = np.isfinite(self.cover.budget)
        budget_left = node.budget / self.cover.budget if has_budget else 0.0
        tasks, toll = prices.tasks, prices.budget
        open_ = node.open
        # In a partition a task that is taken is served for good; in a cover a later set may serve it better.
        taken = node.best < (self.cover.big if self.cover.disjoint else -math.inf)
        best, best_bound = prices, -math.inf
        pick = int(open_[0])
        for _ in range(_NODE_STEPS):
            shares = self.shares[open_]
            charged = np.where(taken, node.best, np.minimum(tasks, node.best))
            relaxed = relax(self.cover, open_, toll * shares, charged, node.groups)
            bound = relaxed.bound - toll * budget_left
            if bound > self.limit:
                return None
            if bound > best_bound:
                best_bound = bound
                best = Prices(tasks, toll, bound)
                pick = int(open_[np.argmin(relaxed.reduced)])
            can_be_chosen = bound + relaxed.lift(node.groups) <= self.limit
            slope = np.where(taken, 0.0, 1.0 - relaxed.served - (tasks >= node.best))
            slope_toll = shares[relaxed.picked].sum() - budget_left if budget_left else 0.0
            norm = float(slope @ slope + slope_toll**2)
            open_ = open_[can_be_chosen]
            if norm == 0 or _count(len(open_), node.groups) <= _FEW:
                break
            step = (self.limit - bound) / norm
            tasks = tasks + step * slope
            toll = max(0.0, toll + step * slope_toll)
        if pick not in open_ and len(open_):
            pick = int(open_[0])
        return replace(node, open=open_), best, pick

    def _compare(self, node: _Node) -> None:
        """Record every choice that extends the node and is as good as the best."""
        for rows, totals in _extensions(self.cover, node):
            near = np.flatnonzero(totals <= self.limit)
            for i in near[np.argsort(totals[near], kind="stable")]:
                # The limit may have become lower since.
                if totals[i] <= self.limit:
                    self.record([*node.taken, *node.open[rows[i]].tolist()])


def _count(n_sets: int, groups: int) -> int:
    """Return how many choices of at most so many sets there are."""
    if n_sets >= _UNCOUNTED:
        return 10**9
    return sum(math.comb(n_sets, size) for size in range(1, min(groups, n_sets) + 1))


def _extensions(cover: Cover, node: _Node) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of ``node.open`` and totals of all extensions by one set, by two, and so on.

    Those in which a set is better at no task than the sets before it are left out: they are as good without it.
    """
    values, costs = cover.values[node.open], cover.costs[node.open]
    n_sets = len(costs)
    rows = np.empty((1, 0), dtype=int)
    best = node.best[None]
    spent = np.zeros(1)
    for _ in range(min(node.groups, n_sets)):
        # Each choice is followed by all sets after its last one, so that no choice comes twice.
        last = rows[:, -1] if rows.shape[1] else np.array([-1])
        following = n_sets - 1 - last
        parent = np.repeat(np.arange(len(rows)), following)
        first_child = np.cumsum(following) - following
        child = np.arange(len(parent)) - first_child[parent] + last[parent] + 1
        is_affordable = spent[parent] + costs[child] <= node.budget
        improves = (values[child] < best[parent]).any(axis=1)
        fits = is_affordable & improves
        if cover.disjoint:
            overlaps = (best[parent] < cover.big) & (values[child] < cover.big)
            fits &= ~overlaps.any(axis=1)
        parent, child = parent[fits], child[fits]
        if not len(parent):
            return
        spent = spent[parent] + costs[child]
        rows = np.column_stack([rows[parent], child])
        best = np.minimum(best[parent], values[child])
        yield rows, best.sum(axis=1)
