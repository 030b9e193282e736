"""Trainings that would improve the choice of an assembly most: the knowledge gradient over networks and repeats.

Frazier, Powell, Dayanik 2009, "The knowledge-gradient policy for correlated normal beliefs",
doi:10.1287/ijoc.1080.0314. One repeat more may be too few to change a choice, so several numbers of repeats are valued.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats.qmc import Sobol

from taskgroup.grouping.predict import Network, SkillPosterior

_REPEATS = (1, 2, 4)
# Draws of what a training may show: quasi-random, a power of two.
_DRAWS = 32
# Networks that are valued exactly; a bound that is quick to compute chooses them.
_SHORTLIST = 40
# Stands for a target that a partial assembly does not serve.
_UNSERVED = -1e6


@dataclass(frozen=True)
class Proposal:
    """A training worth doing.

    Attributes:
        network: what to train; trained before or not.
        repeats: how often, with new seeds.
        value: expected improvement of the assembly's weighted mean skill.
        trained: how often the network was trained already.
    """

    network: Network
    repeats: int
    value: float
    trained: int


def proposals(
    posterior: SkillPosterior,
    weights: np.ndarray,
    prices: np.ndarray,
    costs: np.ndarray,
    contenders: np.ndarray,
    hoped: np.ndarray,
    available: np.ndarray,
    most: int | None,
    n_proposals: int,
) -> list[Proposal]:
    """Return trainings by falling value per cost.

    Args:
        posterior: of all networks that may be trained.
        weights: of the targets, summing to one.
        prices: of networks in an assembly.
        costs: of training each network once.
        contenders: serving networks [assemblies, targets] of assemblies that may turn out best, all available.
        hoped: the same of assemblies that may turn out best if networks that are not available were trained.
        available: networks that an assembly may use now.
        most: number of networks in an assembly at most.
        n_proposals: number of proposals at most.

    Where assemblies must be disjoint the values are those without this limit, so upper bounds.
    """
    if n_proposals < 1:
        return []
    # Without a limit or a price no network need leave an assembly for another one to join.
    may_leave = most is not None or bool(prices.any())
    partials = _with_room(posterior.mean, contenders, most, may_leave)
    if may_leave:
        partials |= _available_parts(posterior.mean, hoped, available)
    value = _KnowledgeGradient(posterior, weights, prices, contenders, np.array(sorted(partials)))
    shortlist = value.shortlist(available)
    found = []
    for row in shortlist:
        best: Proposal | None = None
        best_rate = 0.0
        for repeats in _REPEATS:
            gain = value.of(int(row), repeats)
            rate = gain / (repeats * costs[row])
            if rate > best_rate:
                trained = int(posterior.n_trained[row])
                best = Proposal(posterior.networks[row], repeats, gain, trained)
                best_rate = rate
        if best is not None:
            found.append((best_rate, best))
    found.sort(key=lambda pair: -pair[0])
    return [proposal for _, proposal in found[:n_proposals]]


class _KnowledgeGradient:
    """Expected value of the best contender after a training, less that of today's best."""

    def __init__(
        self,
        posterior: SkillPosterior,
        weights: np.ndarray,
        prices: np.ndarray,
        contenders: np.ndarray,
        partials: np.ndarray,
    ) -> None:
        self._posterior = posterior
        self._weights = weights
        self._prices = prices
        self._contenders = contenders
        self._partials = partials
        n_tasks = len(posterior.tasks)
        # Where a network stands among those that hold a target: rows of the target's covariance.
        self._places = np.cumsum(posterior.member, axis=0) - 1
        self._partial_values = self._values(self._partials)
        self._used = np.zeros((len(self._partials), len(posterior.networks)), dtype=bool)
        for place, serving in enumerate(self._partials):
            self._used[place, serving[serving >= 0]] = True
        self._partial_paid = self._used @ prices
        self._standing = self._values(contenders)
        self._paid = np.array([prices[np.unique(serving)].sum() for serving in contenders])
        self._best = float((self._standing @ weights - self._paid).max())
        uniform = Sobol(n_tasks, rng=np.random.default_rng(0)).random(_DRAWS)
        self._normal = norm.ppf(np.clip(uniform, 1e-4, 1 - 1e-4))
        # Balanced draws: without this the mean of a linear function would not be exactly its value at the centre.
        self._normal -= self._normal.mean(axis=0)

    def _values(self, serving: np.ndarray) -> np.ndarray:
        """Return expected skills [assemblies, targets]; the value of unserved targets is very low."""
        columns = np.arange(serving.shape[1])
        return np.where(serving >= 0, self._posterior.mean[serving, columns], _UNSERVED)

    def shortlist(self, available: np.ndarray) -> np.ndarray:
        """Return the networks with the largest sum of expected improvements of single targets."""
        posterior = self._posterior
        best_now = np.nanmax(posterior.mean[available], axis=0)
        spread = np.where(posterior.member, posterior.spread, 0.0)
        ahead = np.where(posterior.member, posterior.mean - best_now, 0.0)
        # Expected improvement if the skill became known. A network that leads already can only be overtaken, which is
        # as probable the other way round; one that may not be used yet also brings what it is ahead by.
        distance = -np.abs(ahead) / np.maximum(spread, 1e-300)
        improvement = spread * (norm.pdf(distance) + distance * norm.cdf(distance))
        new = np.isin(np.arange(len(ahead)), available, invert=True)
        improvement[new] += np.maximum(ahead[new], 0.0)
        bound = improvement @ self._weights
        return np.argsort(-bound, kind="stable")[:_SHORTLIST]

    def of(self, row: int, repeats: int) -> float:
        """Return the expected improvement by training one network so often."""
        tasks = np.flatnonzero(self._posterior.member[row])
        shifts = self._shifts(row, tasks, repeats)
        weights = self._weights[tasks]
        outside = np.setdiff1d(np.arange(len(self._weights)), tasks)
        normal = self._normal[:, tasks]
        standing = self._standing @ self._weights - self._paid
        moved = standing[None] + normal @ (shifts(self._contenders) * weights).T
        partial = self._partials
        paid = self._partial_paid + np.where(self._used[:, row], 0.0, self._prices[row])
        fixed = self._partial_values[:, outside] @ self._weights[outside] - paid
        old = self._partial_values[:, tasks] + normal[:, None] * shifts(partial)
        own_rows = np.where(np.isin(np.arange(partial.shape[1]), tasks), row, -1)[None]
        new = self._posterior.mean[row, tasks] + normal * shifts(own_rows)
        joined = fixed + np.maximum(old, new[:, None]) @ weights
        best = np.maximum(moved.max(axis=1), joined.max(axis=1))
        return max(0.0, float(best.mean()) - self._best)

    def _shifts(self, row: int, tasks: np.ndarray, repeats: int):
        """Return a function from serving networks to how far one standard deviation of the results moves them."""
        posterior = self._posterior
        by_task = []
        for task in tasks:
            covariance = posterior.covariances[task][:, self._places[row, task]]
            own = covariance[self._places[row, task]]
            deviation = np.sqrt(max(own, 0.0) + posterior.noise[task] / repeats)
            by_task.append(covariance / max(deviation, 1e-300))

        def shifts(serving: np.ndarray) -> np.ndarray:
            found = np.zeros((len(serving), len(tasks)))
            for column, task in enumerate(tasks):
                rows = serving[:, task]
                moved = by_task[column][self._places[rows, task]]
                found[:, column] = np.where(rows >= 0, moved, 0.0)
            return found

        return shifts


def _with_room(
    mean: np.ndarray, contenders: np.ndarray, most: int | None, may_leave: bool
) -> set[tuple[int, ...]]:
    """Return serving networks of assemblies with room for one network more; -1 where nobody serves a target."""
    found = {(-1,) * contenders.shape[1]}
    for serving in contenders:
        networks = np.unique(serving)
        if most is None or len(networks) < most:
            found.add(tuple(serving.tolist()))
        if may_leave:
            found |= _without_each(mean, networks)
    return found


def _available_parts(
    mean: np.ndarray, hoped: np.ndarray, available: np.ndarray
) -> set[tuple[int, ...]]:
    """Return what is available of assemblies that need untrained networks: a training may complete them."""
    found = set()
    for serving in hoped:
        networks = np.unique(serving)
        ready = networks[np.isin(networks, available)]
        if len(ready) < len(networks):
            found.add(_best_serving(mean, ready))
        else:
            found |= _without_each(mean, networks)
    return found


def _without_each(mean: np.ndarray, networks: np.ndarray) -> set[tuple[int, ...]]:
    return {_best_serving(mean, networks[networks != left_out]) for left_out in networks}


def _best_serving(mean: np.ndarray, networks: np.ndarray) -> tuple[int, ...]:
    if not len(networks):
        return (-1,) * mean.shape[1]
    values = np.where(np.isnan(mean[networks]), -np.inf, mean[networks])
    best = networks[np.argmax(values, axis=0)]
    return tuple(np.where(np.isneginf(values.max(axis=0)), -1, best).tolist())
