"""Which sets to train next, so that the best assembly of what was trained is as good as can be.

- First a set of all tasks: from then on an assembly exists, and the level of every task is known.
- Then the set whose training is expected to improve the best assembly most, after what a predictor expects of it. For
  the first part of the plan (``screening``) only pairs are asked: they show who helps whom, and which pair is out of
  the ordinary, which no model can foretell.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import t as student
from scipy.stats.qmc import Sobol

from taskgroup.errors import GroupingError
from taskgroup.grouping.candidates import Candidate, Solution
from taskgroup.grouping.predict import GainPredictor, SetProcess
from taskgroup.grouping.solve import solve

_DRAWS = 64  # of what an untrained set may turn out to be; Sobol's, a power of two
_FREEDOM = 3.0  # degrees of freedom of these draws (Student's t): few sets are far out of the ordinary, but some are
_RARE = 1e-3  # no draw is rarer
_SHORTLIST = 100  # networks that are compared with all draws, where there are more
_PARTIAL = 20_000  # partial assemblies of trained networks that a new one is tried with


class NextSets:
    """Active choice of the next networks to train: `ask`, train, `tell`, and so on; then `best`.

    >>> from taskgroup.grouping import Candidate, NextSets
    >>> space = [Candidate(tasks, {}) for tasks in [("a",), ("b",), ("a", "b")]]
    >>> search = NextSets(space, planned=2, budget=1)
    >>> [network.tasks for network in search.ask()]
    [('a', 'b')]
    >>> search.tell([Candidate(("a", "b"), {"a": 0.5, "b": 0.4})])
    >>> search.best().total
    0.9

    Args:
        space: the networks that could be trained: tasks and cost (scores are not looked at).
        planned: number of networks to be trained in all.
        budget: cost of the final assembly at most, as in `solve`.
        groups: number of its networks at most.
        weights: of the tasks.
        higher_is_better: the scores are gains, not losses.
        screening: part of the plan that is spent on pairs at most, at its beginning. 0 is better where helpers add up
            smoothly, the default where single pairs are out of the ordinary; docs/solve.md shows what either costs.
        predictor: what to expect of untrained sets; default `SetProcess`.
        seed: of the draws.

    Raises:
        GroupingError: an empty space, a plan of less than one network, a screening outside 0 to 1, results of networks
            outside the space.
    """

    def __init__(
        self,
        space: Sequence[Candidate],
        *,
        planned: int,
        budget: float | None = None,
        groups: int | None = None,
        weights: dict[str, float] | None = None,
        higher_is_better: bool = False,
        screening: float = 0.5,
        predictor: GainPredictor | None = None,
        seed: int = 0,
    ) -> None:
        if not space:
            raise GroupingError("space must hold at least one set, found none")
        if planned < 1:
            raise GroupingError(f"planned must be at least 1, found {planned}")
        if not 0 <= screening <= 1:
            raise GroupingError(f"screening must be between 0 and 1, found {screening}")
        self._space = {
            _key(c): Candidate(c.tasks, {}, c.cost, c.key) for c in sorted(space, key=_key)
        }
        self._tasks = sorted({task for c in space for task in c.tasks})
        self._limits: dict[str, Any] = {"budget": budget, "groups": groups}
        self._scoring: dict[str, Any] = {"weights": weights, "higher_is_better": higher_is_better}
        self._predictor = predictor or SetProcess()
        self._rng = np.random.default_rng(seed)
        self._n_pairs = math.floor(screening * planned + 1e-9)
        self._trained: dict[tuple[Any, ...], Candidate] = {}
        self._pending: list[Candidate] = []

    @property
    def trained(self) -> list[Candidate]:
        """The results told so far."""
        return list(self._trained.values())

    def ask(self, n: int = 1) -> list[Candidate]:
        """The next ``n`` networks to train (fewer where the space is at its end); those asked before stay pending."""
        asked = []
        for _ in range(n):
            network = self._next()
            if network is None:
                break
            self._pending.append(network)
            asked.append(network)
        return asked

    def tell(self, results: Iterable[Candidate]) -> None:
        """Results of trained networks, asked for or not."""
        for result in results:
            if _key(result) not in self._space:
                raise GroupingError(
                    f"results must be of networks in the space, found '{' '.join(result.tasks)}'"
                )
            self._trained[_key(result)] = result
            self._pending = [network for network in self._pending if _key(network) != _key(result)]

    def best(self) -> Solution:
        """The best assembly of the trained networks; InfeasibleError where none serves every task within the limits."""
        return solve(self.trained, **self._limits, **self._scoring)

    def _next(self) -> Candidate | None:
        taken = {*self._trained, *map(_key, self._pending)}
        left = [network for key, network in self._space.items() if key not in taken]
        if not left:
            return None
        if not taken:
            return max(left, key=lambda network: (len(network.tasks), network.cost))
        if not {task for network in self.trained for task in network.scores}.issuperset(
            self._tasks
        ):
            return min(left, key=self._least_taken)
        pairs = [network for network in left if len(network.tasks) == 2]
        if pairs and sum(len(key[0]) == 2 for key in taken) < self._n_pairs:
            left = pairs
        return left[int(np.argmax(self._expected_improvement(left)))]

    def _least_taken(self, network: Candidate) -> tuple[float, ...]:
        """Order of asking where nothing can be foretold yet: tasks never asked first, then pairs of rare tasks."""
        asked = Counter(task for known in (*self.trained, *self._pending) for task in known.tasks)
        new = sum(not asked[task] for task in network.tasks)
        mean = sum(asked[task] for task in network.tasks) / len(network.tasks)
        return (-new, abs(len(network.tasks) - 2), mean, -network.cost)

    def _expected_improvement(self, left: list[Candidate]) -> np.ndarray:
        """Mean improvement of the best assembly by each network, over draws from what the predictor expects of it.

        Pending networks count as trained, with what is expected of them. Where no draw improves anything, spreads
        decide.
        """
        predictor = self._predictor.fit(self.trained)
        known = [*self.trained, *self._believed(predictor)]
        sign = -1.0 if self._scoring["higher_is_better"] else 1.0
        weight = np.array(
            [(self._scoring["weights"] or {}).get(task, 1.0) for task in predictor.tasks]
        )
        values = (
            np.array(
                [[sign * c.scores.get(task, np.nan) for task in predictor.tasks] for c in known]
            )
            * weight
        )
        unserved = np.nanmax(values, axis=0) + np.ptp(values[np.isfinite(values)]) + 1.0
        partial = self._partial_assemblies(
            np.where(np.isnan(values), unserved, values), known, unserved
        )
        best = float(partial.values.sum(axis=1).min())
        expected = predictor.predict(left)
        mean, spread = sign * expected.mean * weight, expected.spread * weight
        uniform = np.clip(Sobol(len(weight), rng=self._rng).random(_DRAWS), _RARE, 1 - _RARE)
        draws = student.ppf(uniform, _FREEDOM) / math.sqrt(_FREEDOM / (_FREEDOM - 2))
        inside = np.isfinite(mean)

        def improvements(rows: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
            totals = [
                partial.totals_with(
                    left[i].cost, inside[i], (mean[i] + spread[i] * outcomes)[:, inside[i]]
                )
                for i in rows
            ]
            return np.maximum(best - np.array(totals), 0.0).mean(axis=1)

        found = 1e-9 * np.nansum(spread, axis=1)
        rows = np.arange(len(left))
        if len(left) > _SHORTLIST:  # those of most promise where all their tasks turn out well
            promise = improvements(rows, np.full((1, len(weight)), -1.0))
            rows = np.argsort(-(promise + found), kind="stable")[:_SHORTLIST]
        found[rows] += improvements(rows, draws)
        return found

    @property
    def _budget(self) -> float:
        return math.inf if self._limits["budget"] is None else self._limits["budget"] + 1e-9

    def _believed(self, predictor: GainPredictor) -> list[Candidate]:
        """Pending networks with what is expected of them."""
        mean = predictor.predict(self._pending).mean if self._pending else []
        return [
            Candidate(
                c.tasks,
                {t: float(m) for t, m in zip(predictor.tasks, row, strict=True) if np.isfinite(m)},
                c.cost,
                c.key,
            )
            for c, row in zip(self._pending, mean, strict=True)
        ]

    def _partial_assemblies(
        self, values: np.ndarray, known: list[Candidate], unserved: np.ndarray
    ) -> "_Assemblies":
        """Every choice of known networks within the limits; where there are too many, of the networks of best ranks."""
        prices = np.array([c.cost for c in known])
        most = self._limits["groups"] or len(self._tasks)
        affordable = int((np.cumsum(np.sort(prices)) <= self._budget).sum())
        largest = min(most, len(self._tasks), affordable)
        pool = list(range(len(known)))
        while sum(math.comb(len(pool), size) for size in range(largest + 1)) > _PARTIAL:
            pool = self._without_least(pool, values)
        found = [(unserved[None], np.zeros(1), np.zeros(1))]
        for size in range(1, min(largest, len(pool)) + 1):
            chosen = np.array(list(combinations(pool, size)))
            paid = prices[chosen].sum(axis=1)
            chosen, paid = chosen[paid <= self._budget], paid[paid <= self._budget]
            found.append((values[chosen].min(axis=1), paid, np.full(len(paid), size)))
        rows, costs, sizes = (np.concatenate(part) for part in zip(*found, strict=True))
        return _Assemblies(rows, np.where(sizes < most, self._budget - costs, -1.0))

    @staticmethod
    def _without_least(pool: list[int], values: np.ndarray) -> list[int]:
        """The pool without the network that comes last in the rankings of all tasks."""
        ranks = np.argsort(np.argsort(values[pool], axis=0), axis=0).min(axis=1)
        return [network for place, network in enumerate(pool) if place != int(np.argmax(ranks))]


@dataclass(frozen=True)
class _Assemblies:
    """Choices of networks: best ``values`` [choices, tasks], and the ``room`` left for one more network's cost."""

    values: np.ndarray
    room: np.ndarray

    def totals_with(self, cost: float, inside: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """[draws]: least total with one more network, for draws of its values on the tasks ``inside`` it."""
        fitting = self.values[self.room >= cost]
        if not len(fitting):
            return np.full(len(drawn), np.inf)
        totals = np.repeat(fitting[:, ~inside].sum(axis=1)[None], len(drawn), axis=0)
        for column, task in enumerate(np.flatnonzero(inside)):
            totals += np.minimum(drawn[:, column, None], fitting[None, :, task])
        return totals.min(axis=1)


def _key(network: Candidate) -> tuple[Any, ...]:
    return (network.tasks, network.cost, network.key)
