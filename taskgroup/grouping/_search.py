"""The exact search for a cover or partition: branch and bound on Lagrangian bounds, the last choices one by one.

A node costs a few matrix operations, and every choice as good as the best is seen, so that ties can be broken by rule.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from taskgroup.grouping._bounds import Cover, Prices, best_prices, good_choice, relax, without_idle

_FEW = 3000  # choices that are compared one by one
_NODE_STEPS = 12  # price steps a node
_TIES = 200  # choices as good as the best that are remembered


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
    """All best choices (up to a limit) of a cover; totals within ``slack`` are equal. ``known`` may be empty."""
    run = _Search(cover, slack, deadline)
    everything = np.arange(len(cover.costs))
    run.record(known)
    prices = best_prices(cover, min(run.total, run.highest), slack, deadline)
    if not cover.disjoint:
        relaxed = relax(
            cover, everything, prices.budget * cover.shares(), prices.tasks, cover.groups
        )
        run.record(good_choice(cover, deadline, _affordable(cover, relaxed.picked)))
    nothing = np.full(cover.values.shape[1], cover.big)
    run.visit(_Node([], nothing, everything, cover.groups, cover.budget), prices)
    bound = run.total if run.ended else max(prices.bound, 0.0)
    return Found([list(choice) for choice in run.choices], run.total, bound, run.ended, run.crowded)


def _affordable(cover: Cover, picked: np.ndarray) -> list[int]:
    spent = np.cumsum(cover.costs[picked])
    return picked[spent <= cover.budget].tolist()


class _Search:
    def __init__(self, cover: Cover, slack: float, deadline: float) -> None:
        self.cover, self.slack, self.deadline = cover, slack, deadline
        self.shares = cover.shares()
        self.total, self.ended, self.crowded = math.inf, True, False
        self.choices: set[tuple[int, ...]] = set()
        self.highest = float(
            np.where(cover.values < cover.big, cover.values, 0.0).max(axis=0).sum()
        )

    @property
    def limit(self) -> float:
        """A bound above this ends a branch."""
        return min(self.total, self.highest) + (-self.slack if self.crowded else self.slack)

    def record(self, chosen: list[int]) -> None:
        """Remember a choice if it is as good as the best; forget the others where it is better."""
        total = self.cover.total(chosen)
        if total < self.total - self.slack and total < self.cover.big:
            self.choices, self.crowded = set(), False
        if total <= self.limit:
            self.total = min(self.total, total)
            self.choices.add(tuple(without_idle(self.cover, chosen)))
            self.crowded = self.crowded or len(self.choices) >= _TIES

    def visit(self, node: _Node, prices: Prices) -> None:
        """All choices that extend a node: with the most promising set, then without it, and so on."""
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
        """Without the sets that cannot be paid or improve no task, or, in a partition, hold a task taken before."""
        values = self.cover.values[node.open]
        useful = (values < node.best).any(axis=1) & (self.cover.costs[node.open] <= node.budget)
        if self.cover.disjoint:
            useful &= (values[:, node.best < self.cover.big] == self.cover.big).all(axis=1)
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
        """The node without the sets that are in no choice as good, and the set to branch on; None: nothing is left."""
        left = node.budget / self.cover.budget if np.isfinite(self.cover.budget) else 0.0
        tasks, toll, open_ = prices.tasks, prices.budget, node.open
        taken = node.best < (self.cover.big if self.cover.disjoint else -math.inf)
        best, pick = prices, int(open_[0])
        best_bound = -math.inf
        for _ in range(_NODE_STEPS):
            shares = self.shares[open_]
            charged = np.where(taken, node.best, np.minimum(tasks, node.best))
            found = relax(self.cover, open_, toll * shares, charged, node.groups)
            bound = found.bound - toll * left
            if bound > self.limit:
                return None
            if bound > best_bound:
                best_bound, best = bound, Prices(tasks, toll, bound)
                pick = int(open_[np.argmin(found.reduced)])
            keep = bound + found.lift(node.groups) <= self.limit
            slope = np.where(taken, 0.0, 1.0 - found.served - (tasks >= node.best))
            slope_toll = shares[found.picked].sum() - left if left else 0.0
            norm = float(slope @ slope + slope_toll**2)
            open_ = open_[keep]
            if norm == 0 or _count(len(open_), node.groups) <= _FEW:
                break
            step = (self.limit - bound) / norm
            tasks, toll = tasks + step * slope, max(0.0, toll + step * slope_toll)
        if pick not in open_ and len(open_):
            pick = int(open_[0])
        return replace(node, open=open_), best, pick

    def _compare(self, node: _Node) -> None:
        """Every choice that extends the node."""
        for rows, totals in _extensions(self.cover, node):
            near = np.flatnonzero(totals <= self.limit)
            for i in near[np.argsort(totals[near], kind="stable")]:
                if totals[i] <= self.limit:
                    self.record([*node.taken, *node.open[rows[i]].tolist()])


def _count(n_sets: int, groups: int) -> int:
    return (
        sum(math.comb(n_sets, size) for size in range(1, min(groups, n_sets) + 1))
        if n_sets < 10**4
        else 10**9
    )


def _extensions(cover: Cover, node: _Node) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of ``node.open`` and totals of all extensions by one set, by two, and so on.

    Those in which a set is better at no task than the sets before it are left out: they are as good without it.
    """
    values, costs = cover.values[node.open], cover.costs[node.open]
    n_sets = len(costs)
    rows, best, spent = np.empty((1, 0), dtype=int), node.best[None], np.zeros(1)
    for _ in range(min(node.groups, n_sets)):
        last = rows[:, -1] if rows.shape[1] else np.array([-1])
        following = n_sets - 1 - last
        parent = np.repeat(np.arange(len(rows)), following)
        child = (
            np.arange(len(parent)) - (np.cumsum(following) - following)[parent] + last[parent] + 1
        )
        fits = (spent[parent] + costs[child] <= node.budget) & (values[child] < best[parent]).any(
            axis=1
        )
        if cover.disjoint:
            fits &= ~((best[parent] < cover.big) & (values[child] < cover.big)).any(axis=1)
        parent, child = parent[fits], child[fits]
        if not len(parent):
            return
        spent = spent[parent] + costs[child]
        rows = np.column_stack([rows[parent], child])
        best = np.minimum(best[parent], values[child])
        yield rows, best.sum(axis=1)
