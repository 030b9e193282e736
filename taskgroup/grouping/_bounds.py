"""Covers and partitions: good choices, and Lagrangian bounds that prove which sets no better choice can use.

Relaxing "every task is served once" turns a cover into "take the K sets of most negative reduced cost" (Cornuéjols,
Fisher, Nemhauser 1977, doi:10.1287/mnsc.23.8.789): each task has a price u_t, a set's reduced cost is
sum_t min(0, value_st - u_t), and sum_t u_t plus the K smallest of them is a bound. In a partition a chosen set must
serve all its tasks, so the min is left out, which makes the bound better. A set that lifts the bound above a known
choice when it is taken in is part of no better choice: of thousands of sets this leaves tens, exactly.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Price steps at most, and steps without a better bound after which their length is halved.
_STEPS = 600
_PATIENCE = 15
# Step lengths below this change no bound that matters.
_SHORTEST_STEP = 1e-3
# Below so many sets x tasks, branching is quicker than a long ascent of the prices.
_SMALL = 4000
_SMALL_STEPS = 30
_SWAPS = 50
# A swap must improve the total by more than rounding.
_ROUNDING = 1e-12
# Sets that cost nothing would have an infinite gain per cost.
_LEAST_COST = 1e-3


@dataclass(frozen=True)
class Cover:
    """Choose sets so that the served values sum to the least.

    ``values`` [sets, tasks] are excesses over the best set of the task, >= 0, and ``big`` where a set cannot serve it;
    ``costs`` [sets] are whole numbers; ``budget`` and ``groups`` are upper limits (without: infinite, number of tasks).
    Where ``disjoint``, no task may be in two chosen sets.
    """

    values: np.ndarray
    costs: np.ndarray
    budget: float
    groups: int
    big: float
    disjoint: bool = False

    def total(self, chosen: Sequence[int]) -> float:
        """Return the value of a choice, each task at the best chosen set; >= ``big`` where a task is not served."""
        if not len(chosen):
            return self.big * self.values.shape[1]
        return float(self.values[list(chosen)].min(axis=0).sum())

    def best_values(self, chosen: Sequence[int]) -> np.ndarray:
        """Return the best value of each task in a choice; ``big`` where it is not served."""
        if not len(chosen):
            return np.full(self.values.shape[1], self.big)
        return self.values[list(chosen)].min(axis=0)

    def shares(self) -> np.ndarray:
        """Return the part of the budget that each set takes; 0 where there is no budget."""
        return self.costs / self.budget


def good_choice(cover: Cover, deadline: float, start: Sequence[int] = ()) -> list[int]:
    """Return a good choice within the limits: greedy by gain over cost, then swaps while they help.

    It may not serve all tasks. After ``deadline`` it is as good as it has become by then.
    """
    chosen = _add_greedily(cover, list(start), deadline)
    for _ in range(_SWAPS):
        swapped = _best_swap(cover, chosen, deadline)
        if swapped is None:
            break
        chosen = _add_greedily(cover, swapped, deadline)
    return sorted(chosen)


def good_partition(cover: Cover) -> list[int]:
    """Return a partition within the limits, taking sets in a fixed order where they fit; empty where none is found."""
    member = cover.values < cover.big
    sizes = member.sum(axis=1)
    per_task = np.where(member, cover.values, 0.0).sum(axis=1) / np.maximum(sizes, 1)
    # Good sets first; where that needs too many sets or too much budget, large ones first.
    for order in (np.argsort(per_task, kind="stable"), np.lexsort((per_task, -sizes))):
        chosen = []
        free = np.ones(member.shape[1], dtype=bool)
        for index in order:
            if not (member[index] & ~free).any():
                chosen.append(int(index))
                free &= ~member[index]
        is_affordable = cover.costs[chosen].sum() <= cover.budget
        if not free.any() and len(chosen) <= cover.groups and is_affordable:
            return sorted(chosen)
    return []


def without_idle(cover: Cover, chosen: Sequence[int]) -> list[int]:
    """Return the choice without sets whose removal changes nothing, most expensive first."""
    remaining = sorted(chosen)
    for index in sorted(chosen, key=lambda i: (-cover.costs[i], -i)):
        rest = [i for i in remaining if i != index]
        if rest and cover.total(rest) <= cover.total(remaining):
            remaining = rest
    return remaining


def _add_greedily(cover: Cover, chosen: list[int], deadline: float) -> list[int]:
    best = cover.best_values(chosen)
    spent = cover.costs[chosen].sum()
    while len(chosen) < cover.groups:
        # Past the deadline a set is added only while some task is not served: the choice must become valid.
        if time.monotonic() > deadline and best.max() < cover.big:
            break
        gain = np.maximum(best - cover.values, 0).sum(axis=1)
        gain[spent + cover.costs > cover.budget] = 0
        pick = int(np.argmax(gain / np.maximum(cover.costs, _LEAST_COST)))
        if gain[pick] <= 0:
            break
        chosen.append(pick)
        spent += cover.costs[pick]
        best = np.minimum(best, cover.values[pick])
    return chosen


def _best_swap(cover: Cover, chosen: list[int], deadline: float) -> list[int] | None:
    """Return the choice after the single best replacement; None where none helps, or time is up."""
    total = cover.total(chosen)
    spent = cover.costs[chosen].sum()
    best_choice = None
    best_total = total - _ROUNDING * max(abs(total), 1.0)
    for place, leaving in enumerate(chosen):
        # One replacement compares all sets, which takes a while for thousands of sets and hundreds of tasks.
        if time.monotonic() > deadline:
            break
        rest = chosen[:place] + chosen[place + 1 :]
        totals = np.minimum(cover.best_values(rest), cover.values).sum(axis=1)
        totals[spent - cover.costs[leaving] + cover.costs > cover.budget] = np.inf
        pick = int(np.argmin(totals))
        if totals[pick] < best_total:
            best_choice = [*rest, pick]
            best_total = totals[pick]
    return best_choice


@dataclass(frozen=True)
class Relaxed:
    """The relaxation at given prices: bound, sets taken, reduced costs, and how often each task is served."""

    bound: float
    picked: np.ndarray
    reduced: np.ndarray
    served: np.ndarray

    def lift(self, groups: int) -> np.ndarray:
        """Return how far the bound rises if a set is taken, whether the relaxation takes it or not, [sets]."""
        pushed_out = 0.0
        if len(self.picked) == groups:
            pushed_out = self.reduced[self.picked].max()
        return np.maximum(self.reduced - pushed_out, 0.0)


def relax(
    cover: Cover, sets: np.ndarray, tolls: np.ndarray, prices: np.ndarray, groups: int
) -> Relaxed:
    """Return the relaxation over some sets that cost ``tolls`` more than their values (their share of the budget)."""
    values = cover.values[sets]
    # In a partition a chosen set serves all its tasks, in a cover only those where it is below the price.
    served = values < (cover.big if cover.disjoint else prices)
    margin = np.where(served, values - prices, 0.0)
    reduced = margin.sum(axis=1) + tolls
    picked = np.arange(len(reduced))
    if groups < len(reduced):
        picked = np.argpartition(reduced, groups - 1)[:groups]
    picked = picked[reduced[picked] < 0]
    bound = float(prices.sum() + reduced[picked].sum())
    return Relaxed(bound, picked, reduced, served[picked].sum(axis=0))


@dataclass(frozen=True)
class Prices:
    """Prices of being served, one per task, and of the whole budget, with the bound they prove."""

    tasks: np.ndarray
    budget: float
    bound: float


def best_prices(cover: Cover, total: float, slack: float, deadline: float) -> Prices:
    """Return the prices of the best bound found by subgradient steps.

    The steps have Polyak's length towards ``total``, the value of a known choice; they end once the bound is within
    ``slack`` of it, or at the deadline.
    """
    # A task is worth at first what its second best set would cost it.
    second = np.partition(cover.values, min(1, len(cover.values) - 1), axis=0)[:2][-1]
    prices = np.where(second < cover.big, second, 0.0)
    toll = 0.0
    theta, stale = 2.0, 0
    best = Prices(prices, toll, -np.inf)
    shares = cover.shares()
    has_budget = np.isfinite(cover.budget)
    everything = np.arange(len(cover.costs))
    n_steps = _STEPS if cover.values.size > _SMALL else _SMALL_STEPS
    for _ in range(n_steps):
        relaxed = relax(cover, everything, toll * shares, prices, cover.groups)
        bound = relaxed.bound - toll
        stale += 1
        if bound > best.bound:
            best = Prices(prices, toll, bound)
            stale = 0
        slope = 1.0 - relaxed.served
        slope_toll = shares[relaxed.picked].sum() - 1.0 if has_budget else 0.0
        norm = float(slope @ slope + slope_toll**2)
        is_proven = total - best.bound <= slack
        if norm == 0 or theta < _SHORTEST_STEP or is_proven or time.monotonic() > deadline:
            break
        if stale >= _PATIENCE:
            theta, stale = theta / 2, 0
            prices, toll = best.tasks, best.budget
            continue
        step = theta * (total - bound) / norm
        prices = prices + step * slope
        toll = max(0.0, toll + step * slope_toll)
    return best
