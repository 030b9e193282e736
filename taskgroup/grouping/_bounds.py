"""Covers and partitions: good choices, and Lagrangian bounds that prove what no better choice can use.

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

_STEPS, _PATIENCE = (
    600,
    15,
)  # steps at most; halve their length after so many without a better bound
_SWAPS = 50
_SMALL, _SMALL_STEPS = 4000, 30  # sets x tasks below which branching is quicker than long ascents


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
        """Value of a choice: each task at the best chosen set; >= ``big`` where a task is served by none."""
        if not len(chosen):
            return self.big * self.values.shape[1]
        return float(self.values[list(chosen)].min(axis=0).sum())

    def shares(self) -> np.ndarray:
        """Part of the budget each set takes; 0 where there is no budget."""
        return self.costs / self.budget


def good_choice(cover: Cover, deadline: float, start: Sequence[int] = ()) -> list[int]:
    """A good choice within the limits: greedy by gain over cost, then swaps while they help; may not serve all."""
    chosen = _add_greedily(cover, list(start))
    for _ in range(_SWAPS):
        swapped = _best_swap(cover, chosen) if time.monotonic() < deadline else None
        if swapped is None:
            break
        chosen = _add_greedily(cover, swapped)
    return sorted(chosen)


def without_idle(cover: Cover, chosen: Sequence[int]) -> list[int]:
    """The choice without sets whose removal changes nothing, dearest first."""
    kept = sorted(chosen)
    for index in sorted(chosen, key=lambda i: (-cover.costs[i], -i)):
        rest = [i for i in kept if i != index]
        if rest and cover.total(rest) <= cover.total(kept):
            kept = rest
    return kept


def _best_so_far(cover: Cover, chosen: list[int]) -> np.ndarray:
    return cover.values[chosen].min(axis=0) if chosen else np.full(cover.values.shape[1], cover.big)


def _add_greedily(cover: Cover, chosen: list[int]) -> list[int]:
    best = _best_so_far(cover, chosen)
    spent = cover.costs[chosen].sum()
    while len(chosen) < cover.groups:
        gain = np.maximum(best - cover.values, 0).sum(axis=1)
        gain[spent + cover.costs > cover.budget] = 0
        pick = int(np.argmax(gain / np.maximum(cover.costs, 1e-3)))
        if gain[pick] <= 0:
            break
        chosen.append(pick)
        spent += cover.costs[pick]
        best = np.minimum(best, cover.values[pick])
    return chosen


def _best_swap(cover: Cover, chosen: list[int]) -> list[int] | None:
    """The choice after the single best replacement, or None where none helps."""
    total, spent = cover.total(chosen), cover.costs[chosen].sum()
    found, value = None, total - 1e-12 * max(abs(total), 1.0)
    for place in range(len(chosen)):
        rest = chosen[:place] + chosen[place + 1 :]
        totals = np.minimum(_best_so_far(cover, rest), cover.values).sum(axis=1)
        totals[spent - cover.costs[chosen[place]] + cover.costs > cover.budget] = np.inf
        pick = int(np.argmin(totals))
        if totals[pick] < value:
            found, value = [*rest, pick], totals[pick]
    return found


@dataclass(frozen=True)
class Relaxed:
    """The relaxation at given prices: bound, sets taken, reduced costs, and how often each task is served."""

    bound: float
    picked: np.ndarray
    reduced: np.ndarray
    served: np.ndarray

    def lift(self, groups: int) -> np.ndarray:
        """How far taking in each set, whether the relaxation takes it or not, lifts the bound."""
        pushed_out = self.reduced[self.picked].max() if len(self.picked) == groups else 0.0
        return np.maximum(self.reduced - pushed_out, 0.0)


def relax(
    cover: Cover, sets: np.ndarray, tolls: np.ndarray, prices: np.ndarray, groups: int
) -> Relaxed:
    """Relaxation over some sets that cost ``tolls`` more than their values (their share of the budget)."""
    values = cover.values[sets]
    served = values < (cover.big if cover.disjoint else prices)
    margin = np.where(served, values - prices, 0.0)
    reduced = margin.sum(axis=1) + tolls
    picked = (
        np.argpartition(reduced, groups - 1)[:groups]
        if groups < len(reduced)
        else np.arange(len(reduced))
    )
    picked = picked[reduced[picked] < 0]
    return Relaxed(
        float(prices.sum() + reduced[picked].sum()), picked, reduced, served[picked].sum(axis=0)
    )


@dataclass(frozen=True)
class Prices:
    """Prices of being served, a task each, and of the whole budget, with the bound they prove."""

    tasks: np.ndarray
    budget: float
    bound: float


def best_prices(cover: Cover, total: float, slack: float, deadline: float) -> Prices:
    """Prices with the best bound found by subgradient steps of Polyak's length towards ``total``, a known choice's."""
    second = np.sort(cover.values, axis=0)[:2][-1]
    prices = np.where(second < cover.big, second, 0.0)
    toll, theta, stale = 0.0, 2.0, 0
    best = Prices(prices, toll, -np.inf)
    shares, everything = cover.shares(), np.arange(len(cover.costs))
    for _ in range(_STEPS if cover.values.size > _SMALL else _SMALL_STEPS):
        found = relax(cover, everything, toll * shares, prices, cover.groups)
        bound = found.bound - toll
        stale += 1
        if bound > best.bound:
            best, stale = Prices(prices, toll, bound), 0
        slope = 1.0 - found.served
        slope_toll = shares[found.picked].sum() - 1.0 if np.isfinite(cover.budget) else 0.0
        norm = float(slope @ slope + slope_toll**2)
        if norm == 0 or theta < 1e-3 or total - best.bound <= slack or time.monotonic() > deadline:
            break
        if stale >= _PATIENCE:
            theta, stale, prices, toll = theta / 2, 0, best.tasks, best.budget
            continue
        step = theta * (total - bound) / norm
        prices, toll = prices + step * slope, max(0.0, toll + step * slope_toll)
    return best
