"""Which sets to train next, so that the best assembly of what was trained is as good as can be.

- First a set of all tasks: from then on an assembly exists, and the level of every task is known.
- Then the set whose training is expected to improve the best assembly most, by what a predictor expects of it.
- For the first part of the plan (``screening``) only pairs are asked for: they show who helps whom, and which pair is
  out of the ordinary, which no model can predict.
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

# Draws of what an untrained set may turn out to be; Sobol's sequence wants a power of two.
_DRAWS = 64
# Degrees of freedom of these draws (Student's t): few sets are far out of the ordinary, but some are.
_FREEDOM = 3.0
# No draw is rarer than this.
_RAREST = 1e-3
# Networks that are compared with all draws, where there are more.
_SHORTLIST = 100
# Partial assemblies of trained networks that a new one is tried with.
_PARTIAL = 20_000
# Weight of the spreads where no draw improves anything: only then do they decide.
_TIE_BREAK = 1e-9
# Limits are met up to rounding.
_TOLERANCE = 1e-9


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
        self._space: dict[tuple[Any, ...], Candidate] = {}
        for network in sorted(space, key=_key):
            blank = Candidate(network.tasks, {}, network.cost, network.key)
            self._space[_key(network)] = blank
        self._tasks = sorted({task for c in space for task in c.tasks})
        self._limits: dict[str, Any] = {"budget": budget, "groups": groups}
        self._scoring: dict[str, Any] = {"weights": weights, "higher_is_better": higher_is_better}
        self._predictor = predictor or SetProcess()
        self._rng = np.random.default_rng(seed)
        self._n_pairs = math.floor(screening * planned + _TOLERANCE)
        self._trained: dict[tuple[Any, ...], Candidate] = {}
        self._pending: list[Candidate] = []

    @property
    def trained(self) -> list[Candidate]:
        """The results told so far."""
        return list(self._trained.values())

    def ask(self, n: int = 1) -> list[Candidate]:
        """Return the next ``n`` networks to train, fewer at the end of the space; those asked before stay pending."""
        asked = []
        for _ in range(n):
            network = self._next()
            if network is None:
                break
            self._pending.append(network)
            asked.append(network)
        return asked

    def tell(self, results: Iterable[Candidate]) -> None:
        """Add results of trained networks, asked for or not."""
        for result in results:
            if _key(result) not in self._space:
                raise GroupingError(
                    f"results must be of networks in the space, found '{' '.join(result.tasks)}'"
                )
            self._trained[_key(result)] = result
            self._pending = [network for network in self._pending if _key(network) != _key(result)]

    def best(self) -> Solution:
        """Return the best assembly of the trained networks.

        Raises InfeasibleError where none serves every task within the limits.
        """
        return solve(self.trained, **self._limits, **self._scoring)

    def _next(self) -> Candidate | None:
        taken = {*self._trained, *map(_key, self._pending)}
        left = [network for key, network in self._space.items() if key not in taken]
        if not left:
            return None
        if not taken:
            return max(left, key=lambda network: (len(network.tasks), network.cost))
        scored = {task for network in self.trained for task in network.scores}
        if not scored.issuperset(self._tasks):
            return min(left, key=self._rank_without_prediction)
        pairs = [network for network in left if len(network.tasks) == 2]
        n_pairs_taken = sum(len(tasks) == 2 for tasks, *_ in taken)
        if pairs and n_pairs_taken < self._n_pairs:
            left = pairs
        return left[int(np.argmax(self._expected_improvement(left)))]

    def _rank_without_prediction(self, network: Candidate) -> tuple[float, ...]:
        """Return the rank while nothing can be predicted: tasks never asked for first, then pairs of rare tasks."""
        asked: Counter[str] = Counter()
        for known in (*self.trained, *self._pending):
            asked.update(known.tasks)
        n_new = sum(not asked[task] for task in network.tasks)
        mean = sum(asked[task] for task in network.tasks) / len(network.tasks)
        return (-n_new, abs(len(network.tasks) - 2), mean, -network.cost)

    def _expected_improvement(self, left: list[Candidate]) -> np.ndarray:
        """Return the mean improvement of the best assembly by each network, over draws from its prediction.

        Pending networks count as trained, with what is expected of them. Where no draw improves anything, spreads
        decide.
        """
        predictor = self._predictor.fit(self.trained)
        known = [*self.trained, *self._believed(predictor)]
        weights = self._weights(predictor.tasks)
        sign = -1.0 if self._scoring["higher_is_better"] else 1.0
        scores = [[c.scores.get(task, np.nan) for task in predictor.tasks] for c in known]
        values = sign * np.array(scores) * weights
        # An unserved task is worse than all known values, so any network that serves it improves the assembly.
        spread_of_all = np.ptp(values[np.isfinite(values)])
        unserved = np.nanmax(values, axis=0) + spread_of_all + 1.0
        values = np.where(np.isnan(values), unserved, values)
        partial = self._partial_assemblies(values, known, unserved)
        expected = predictor.predict(left)
        predicted = _Predicted(
            partial,
            [network.cost for network in left],
            sign * expected.mean * weights,
            expected.spread * weights,
        )
        improvement = _TIE_BREAK * np.nansum(predicted.spread, axis=1)
        rows = np.arange(len(left))
        if len(left) > _SHORTLIST:
            # The shortlist holds those that promise most where all their tasks turn out well.
            all_well = np.full((1, len(weights)), -1.0)
            promise = predicted.improvements(rows, all_well)
            rows = np.argsort(-(promise + improvement), kind="stable")[:_SHORTLIST]
        improvement[rows] += predicted.improvements(rows, self._draws(len(weights)))
        return improvement

    def _weights(self, tasks: Sequence[str]) -> np.ndarray:
        given = self._scoring["weights"] or {}
        return np.array([given.get(task, 1.0) for task in tasks])

    def _draws(self, n_tasks: int) -> np.ndarray:
        """Return draws [draws, tasks] of Student's t with unit variance."""
        uniform = Sobol(n_tasks, rng=self._rng).random(_DRAWS)
        draws = student.ppf(np.clip(uniform, _RAREST, 1 - _RAREST), _FREEDOM)
        return draws / math.sqrt(_FREEDOM / (_FREEDOM - 2))

    @property
    def _budget(self) -> float:
        budget = self._limits["budget"]
        return math.inf if budget is None else budget + _TOLERANCE

    def _believed(self, predictor: GainPredictor) -> list[Candidate]:
        """Return pending networks with the scores that are expected of them."""
        if not self._pending:
            return []
        believed = []
        means = predictor.predict(self._pending).mean
        for network, row in zip(self._pending, means.tolist(), strict=True):
            pairs = zip(predictor.tasks, row, strict=True)
            scores = {task: mean for task, mean in pairs if math.isfinite(mean)}
            believed.append(Candidate(network.tasks, scores, network.cost, network.key))
        return believed

    def _partial_assemblies(
        self, values: np.ndarray, known: list[Candidate], unserved: np.ndarray
    ) -> "_Assemblies":
        """Return every choice of known networks within the limits.

        Where there are too many, the networks that rank worst are left out.
        """
        costs = np.array([network.cost for network in known])
        most = self._limits["groups"] or len(self._tasks)
        n_affordable = int((np.cumsum(np.sort(costs)) <= self._budget).sum())
        largest = min(most, len(self._tasks), n_affordable)
        pool = list(range(len(known)))
        while _n_choices(len(pool), largest) > _PARTIAL:
            pool = self._without_least(pool, values)
        best_values = [unserved[None]]
        room = [np.array([self._budget])]
        for size in range(1, min(largest, len(pool)) + 1):
            chosen = np.array(list(combinations(pool, size)))
            paid = costs[chosen].sum(axis=1)
            chosen, paid = chosen[paid <= self._budget], paid[paid <= self._budget]
            best_values.append(values[chosen].min(axis=1))
            # A full assembly has no room for a further network, whatever it costs.
            is_full = size >= most
            room.append(np.full(len(paid), -1.0) if is_full else self._budget - paid)
        return _Assemblies(np.concatenate(best_values), np.concatenate(room))

    @staticmethod
    def _without_least(pool: list[int], values: np.ndarray) -> list[int]:
        """Return the pool without the network whose best rank among all tasks is lowest."""
        ranks = np.argsort(np.argsort(values[pool], axis=0), axis=0)
        worst = int(np.argmax(ranks.min(axis=1)))
        return pool[:worst] + pool[worst + 1 :]


@dataclass(frozen=True)
class _Assemblies:
    """Choices of networks: best ``values`` [choices, tasks], and the ``room`` left for one more network's cost."""

    values: np.ndarray
    room: np.ndarray

    def totals_with(self, cost: float, inside: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return the least total with one more network for each draw of its values on the tasks ``inside`` it."""
        fitting = self.values[self.room >= cost]
        if not len(fitting):
            return np.full(len(drawn), np.inf)
        outside_totals = fitting[:, ~inside].sum(axis=1)
        totals = np.repeat(outside_totals[None], len(drawn), axis=0)
        for column, task in enumerate(np.flatnonzero(inside)):
            totals += np.minimum(drawn[:, column, None], fitting[None, :, task])
        return totals.min(axis=1)


@dataclass(frozen=True)
class _Predicted:
    """Untrained networks: ``costs`` [networks], predicted ``mean`` and ``spread`` [networks, tasks]; less is better."""

    partial: _Assemblies
    costs: list[float]
    mean: np.ndarray
    spread: np.ndarray

    def improvements(self, rows: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Return how much some networks improve the best assembly, mean over outcomes [draws, tasks] in spreads."""
        best = float(self.partial.values.sum(axis=1).min())
        totals = []
        for row in rows:
            inside = np.isfinite(self.mean[row])
            drawn = self.mean[row] + self.spread[row] * outcomes
            totals.append(self.partial.totals_with(self.costs[row], inside, drawn[:, inside]))
        return np.maximum(best - np.array(totals), 0.0).mean(axis=1)


def _n_choices(n_networks: int, largest: int) -> int:
    return sum(math.comb(n_networks, size) for size in range(largest + 1))


def _key(network: Candidate) -> tuple[Any, ...]:
    return (network.tasks, network.cost, network.key)
