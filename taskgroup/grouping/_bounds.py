"""Bounds of a cover without an integer program: a good choice, and a proof of which sets and pairs cannot matter.

Lagrangian relaxation of "every task is served once" turns the cover into "take the K sets of most negative reduced
cost" (Cornuéjols, Fisher, Nemhauser 1977, doi:10.1287/mnsc.23.8.789); a set whose reduced cost lifts the bound above a
known choice is in no better choice. Of thousands of sets this leaves tens, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_STEPS, _PATIENCE = 600, 15  # subgradient steps at most; halve the step length after so many without a better bound
_SMALL = 4000  # sets x tasks below which the integer program alone is faster


@dataclass(frozen=True)
class Cover:
    """Choose sets so that the served values sum to the least.

    ``values`` [sets, tasks] are excesses over the best set of the task, >= 0, and ``big`` where a set cannot serve it;
    ``costs`` [sets] are whole numbers; ``budget`` and ``groups`` are upper limits (without: infinite, number of sets).
    """

    values: np.ndarray
    costs: np.ndarray
    budget: float
    groups: int
    big: float

    def total(self, chosen: Sequence[int]) -> float:
        """Value of a choice: each task at the best chosen set; >= ``big`` where a task is served by none."""
        if not len(chosen):
            return self.big * self.values.shape[1]
        return float(self.values[list(chosen)].min(axis=0).sum())


def good_choice(cover: Cover, start: Sequence[int] = ()) -> list[int]:
    """A good choice within the limits: greedy by gain over cost, then swaps while they help; may not serve all."""
    chosen = _add_greedily(cover, list(start))
    for _ in range(50):
        swapped = _best_swap(cover, chosen)
        if swapped is None:
            break
        chosen = _add_greedily(cover, swapped)
    return sorted(chosen)


def _add_greedily(cover: Cover, chosen: list[int]) -> list[int]:
    best = cover.values[chosen].min(axis=0) if chosen else np.full(cover.values.shape[1], cover.big)
    spent = cover.costs[chosen].sum() if chosen else 0
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
        best = cover.values[rest].min(axis=0) if rest else np.full(cover.values.shape[1], cover.big)
        totals = np.minimum(best, cover.values).sum(axis=1)
        totals[spent - cover.costs[chosen[place]] + cover.costs > cover.budget] = np.inf
        pick = int(np.argmin(totals))
        if totals[pick] < value:
            found, value = [*rest, pick], totals[pick]
    return found


@dataclass(frozen=True)
class Reduction:
    """What a Lagrangian bound proves: the bound, a choice, and which sets and (set, task) pairs may still matter."""

    bound: float
    chosen: list[int]
    total: float
    sets: np.ndarray
    pairs: np.ndarray


def reduce(cover: Cover, chosen: list[int], slack: float) -> Reduction:
    """Drop what no choice within ``slack`` of the known one, or of a better one found here, can use."""
    prices, toll = np.zeros(cover.values.shape[1]), 0.0
    if cover.values.size > _SMALL:
        prices, toll = _climb(cover, cover.total(chosen), slack)
    return _drop(cover, chosen, prices, toll, slack)


def _climb(cover: Cover, total: float, slack: float) -> tuple[np.ndarray, float]:
    """The prices of being served and of the budget with the best bound found (subgradient steps, Polyak's length)."""
    second = np.sort(cover.values, axis=0)[:2][-1]
    prices, toll = np.where(second < cover.big, second, 0.0), 0.0
    bound, best, theta, stale = -np.inf, (prices, toll), 2.0, 0
    for _ in range(_STEPS):
        value, picked, serving = _relaxed(cover, prices, toll)
        stale += 1
        if value > bound:
            bound, best, stale = value, (prices, toll), 0
        elif stale >= _PATIENCE:
            theta, stale, (prices, toll) = theta / 2, 0, best
            value, picked, serving = _relaxed(cover, prices, toll)
        slope = 1.0 - serving
        spent = cover.costs[picked].sum() / cover.budget - 1.0 if np.isfinite(cover.budget) else 0.0
        norm = float(slope @ slope + spent**2)
        if norm == 0 or theta < 1e-3 or total - bound <= slack:
            break
        step = theta * (total - value) / norm
        prices, toll = prices + step * slope, max(0.0, toll + step * spent)
    return best


def _relaxed(cover: Cover, prices: np.ndarray, toll: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Bound at these prices, the sets it takes, and how often it serves each task."""
    margin = np.minimum(cover.values - prices, 0.0)
    reduced = margin.sum(axis=1) + _toll(cover, toll)
    order = np.argpartition(reduced, cover.groups - 1)[: cover.groups] if cover.groups < len(reduced) else slice(None)
    picked = np.arange(len(reduced))[order]
    picked = picked[reduced[picked] < 0]
    value = prices.sum() - toll + reduced[picked].sum()
    return float(value), picked, (margin[picked] < 0).sum(axis=0)


def _toll(cover: Cover, toll: float) -> np.ndarray | float:
    """Price of each set's share of the budget."""
    return toll * cover.costs / cover.budget if toll else 0.0


def _drop(cover: Cover, chosen: list[int], prices: np.ndarray, toll: float, slack: float) -> Reduction:
    bound, picked, _ = _relaxed(cover, prices, toll)
    refined = good_choice(cover, _affordable(cover, picked))
    chosen = min(chosen, refined, key=cover.total)
    total = cover.total(chosen)
    reduced = np.minimum(cover.values - prices, 0.0).sum(axis=1) + _toll(cover, toll)
    # a set taken beyond those picked pushes the dearest of them out, once there are K
    pushed_out = reduced[picked].max() if len(picked) == cover.groups else 0.0
    lift = np.where(np.isin(np.arange(len(reduced)), picked), 0.0, np.maximum(reduced - pushed_out, 0.0))
    sets = bound + lift <= total + slack
    extra = np.maximum(cover.values - prices, 0.0)
    pairs = (cover.values < cover.big) & sets[:, None] & (bound + lift[:, None] + extra <= total + slack)
    return Reduction(bound, chosen, total, sets, pairs)


def _affordable(cover: Cover, picked: np.ndarray) -> list[int]:
    kept: list[int] = []
    for index in picked[np.argsort(cover.values[picked].sum(axis=1), kind="stable")]:
        if cover.costs[[*kept, index]].sum() <= cover.budget:
            kept.append(int(index))
    return kept
