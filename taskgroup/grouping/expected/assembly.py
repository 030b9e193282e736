"""The choice among trained networks by what they are expected to reach with new seeds, and how sure it is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from taskgroup.errors import GroupingError, InfeasibleError, did_you_mean
from taskgroup.grouping.expected._covers import best_covers
from taskgroup.grouping.expected.proposals import Proposal, proposals
from taskgroup.grouping.grouping import Group, Grouping
from taskgroup.grouping.predict import Network, SkillPosterior
from taskgroup.intervals import Interval, percentile_bounds

# Draws that probabilities and intervals are taken over: a standard error of .016 at most.
_DRAWS = 1000
# Draws that the best assembly is found for, one each.
_SOLVED_DRAWS = 48
# The gain in mean skill that is not worth a training.
_TOLERANCE = 5e-4


@dataclass(frozen=True)
class Assembled:
    """One network of an assembly and the targets that it serves."""

    network: Network
    serves: tuple[str, ...]


@dataclass(frozen=True)
class ExpectedAssembly:
    """The assembly of best expected skill.

    Attributes:
        groups: its networks.
        skills: expected skill of each target.
        value: weighted mean of the expected skills.
        gains: for each target, expected skill less that of the best network of the target alone, with 95 % intervals;
            empty where some target has no network of its own.
        probabilities: that the assembly is better than ``singles`` (the best network of each target alone),
            ``together`` (the best network of all targets) and other groupings given by name; 0.5 where it is the same.
            Alternatives for which networks are missing are left out.
        expected_regret: by how much its value is expected to fall short of the best assembly of all networks, trained
            or not, if all skills were known.
        proposals: trainings that would improve the value most, best first.
        settled: whether no proposal is worth a training.
    """

    groups: tuple[Assembled, ...]
    skills: dict[str, float] = field(hash=False)
    value: float
    gains: dict[str, Interval] = field(hash=False)
    probabilities: dict[str, float] = field(hash=False)
    expected_regret: float
    proposals: tuple[Proposal, ...]
    settled: bool

    def grouping(self) -> Grouping:
        """Return the assembly as a grouping; targets that a network holds but does not serve are its helpers."""
        return Grouping(tuple(Group(group.network.tasks, group.serves) for group in self.groups))


def expected_assembly(
    posterior: SkillPosterior,
    *,
    networks: int | None = None,
    disjoint: bool = False,
    weights: Mapping[str, float] | None = None,
    prices: Sequence[float] | float = 0.0,
    costs: Sequence[float] | None = None,
    alternatives: Mapping[str, Grouping] | None = None,
    choose_from: Collection[Network] | None = None,
    include_untrained: bool = False,
    n_proposals: int = 10,
    tolerance: float = _TOLERANCE,
    seed: int = 0,
) -> ExpectedAssembly:
    """Choose networks so that the weighted mean of the expected skills, less prices, is best.

    Args:
        posterior: of all networks to consider, trained ones and ones that could be trained.
        networks: number of networks of the assembly at most.
        disjoint: no target may be in two of them.
        weights: of the targets in the mean, 1 where not given; a target of weight 0 only helps.
        prices: what each network of the assembly must bring in mean skill, one for all or one per network.
        costs: of training each network once, in any unit; proposals are ranked by value per cost.
        alternatives: groupings to compare with, e.g. ``{"correlation": ...}``.
        choose_from: networks that may be chosen; default: all trained ones. Alternatives and proposals are of all.
        include_untrained: choose among networks that were never trained too.
        n_proposals: number of proposals at most.
        tolerance: gain in mean skill that is not worth a training.
        seed: of the draws.

    Raises:
        GroupingError: an unknown target among the weights, weights that are not positive, prices or costs of a wrong
            number or not finite.
        InfeasibleError: no choice of trained networks serves every target.
    """
    problem = _Problem(posterior, networks, disjoint, weights, prices, costs)
    trained = np.flatnonzero(posterior.n_trained > 0)
    everything = np.arange(len(posterior.networks))
    available = everything if include_untrained else trained
    if not len(available):
        raise InfeasibleError("an assembly needs at least one trained network, found none")
    rows = available
    if choose_from is not None:
        allowed = [posterior.networks[row] in choose_from for row in available]
        rows = available[np.array(allowed, dtype=bool)]
    serving = problem.choose(rows, posterior.mean)
    draws = posterior.sample(_DRAWS, seed)
    totals = problem.totals(draws, serving)
    singles = problem.best_of_grouping(Grouping.singles(posterior.tasks), available)
    others = {"singles": singles}
    together = Grouping.together(posterior.tasks)
    others["together"] = problem.best_of_grouping(together, available)
    for name, grouping in (alternatives or {}).items():
        others[name] = problem.best_of_grouping(grouping, available)
    few = draws[:_SOLVED_DRAWS]
    best = problem.cover(few, everything)
    best_totals = problem.totals_of_each(few, best)
    regret = float(np.mean(np.maximum(best_totals - totals[:_SOLVED_DRAWS], 0.0)))
    contenders = np.unique(np.vstack([serving, problem.cover(few, available)]), axis=0)
    proposed = proposals(
        posterior, problem.weights, problem.prices, problem.costs, contenders,
        np.unique(best, axis=0), available, networks, n_proposals,
    )  # fmt: skip
    return ExpectedAssembly(
        groups=problem.groups(serving),
        skills=problem.skills(serving),
        value=float(problem.totals(posterior.mean[None], serving)[0] + problem.paid(serving)),
        gains={} if singles is None else _gains(posterior, draws, serving, singles),
        probabilities=_probabilities(problem, draws, totals, serving, others),
        expected_regret=regret,
        proposals=tuple(proposed),
        settled=all(proposal.value < tolerance for proposal in proposed),
    )


def hoped_assembly(
    posterior: SkillPosterior,
    *,
    networks: int | None = None,
    disjoint: bool = False,
    weights: Mapping[str, float] | None = None,
    prices: Sequence[float] | float = 0.0,
    boldness: float = 1.0,
    seed: int = 0,
) -> tuple[Assembled, ...]:
    """Return the best assembly of all networks, trained or not, if a draw of their skills were true.

    A network is chosen about as often as it is probable that it belongs to the best assembly (Thompson sampling,
    doi:10.1561/2200000070).

    Args:
        posterior: of all networks to consider.
        networks, disjoint, weights, prices: as in ``expected_assembly``.
        boldness: factor on the distance of a draw from the expected skills: 0 takes what is expected.
        seed: of the draw.

    Raises GroupingError, InfeasibleError: as ``expected_assembly``.
    """
    problem = _Problem(posterior, networks, disjoint, weights, prices, None)
    draw = posterior.sample(1, seed)[0]
    skills = posterior.mean + boldness * (draw - posterior.mean)
    serving = problem.choose(np.arange(len(posterior.networks)), skills)
    return problem.groups(serving)


class _Problem:
    """A checked request: weights that sum to one, a price and a cost per network."""

    def __init__(
        self,
        posterior: SkillPosterior,
        networks: int | None,
        disjoint: bool,
        weights: Mapping[str, float] | None,
        prices: Sequence[float] | float,
        costs: Sequence[float] | None,
    ) -> None:
        if networks is not None and networks < 1:
            raise GroupingError(f"networks must be at least 1, found {networks}")
        self._posterior = posterior
        self._most = networks
        self._disjoint = disjoint
        self.weights = _weights(weights, posterior.tasks)
        n_networks = len(posterior.networks)
        self.prices = _numbers("prices", prices, n_networks)
        self.costs = _numbers("costs", 1.0 if costs is None else costs, n_networks)
        if (self.costs <= 0).any():
            raise GroupingError(f"costs must be positive, found {self.costs.min():g}")

    def choose(self, available: np.ndarray, skills: np.ndarray) -> np.ndarray:
        """Return the network that serves each target in the best assembly by skills [networks, targets]."""
        rows = available
        while True:
            serving = self.cover(skills[None], rows)[0]
            weaker = self._weaker_twins(serving)
            if not weaker:
                return serving
            # One set of targets is one network of a grouping, so of two recipes the one that serves less has to go.
            rows = rows[~np.isin(rows, weaker)]

    def _weaker_twins(self, serving: np.ndarray) -> list[int]:
        by_tasks: dict[tuple[str, ...], list[int]] = {}
        for row in np.unique(serving):
            by_tasks.setdefault(self._posterior.networks[row].tasks, []).append(int(row))
        weaker = []
        for twins in by_tasks.values():
            served = [int((serving == row).sum()) for row in twins]
            strongest = twins[int(np.argmax(served))]
            weaker += [row for row in twins if row != strongest]
        return weaker

    def cover(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the serving networks [draws, targets] of the best assembly of these networks, for each draw."""
        weighted = values[:, rows] * self.weights
        found = best_covers(weighted, self.prices[rows], self._most, self._disjoint)
        return rows[found]

    def paid(self, serving: np.ndarray) -> float:
        """Return the prices of the networks of an assembly."""
        return float(self.prices[np.unique(serving)].sum())

    def totals(self, draws: np.ndarray, serving: np.ndarray) -> np.ndarray:
        """Return the value of one assembly less its prices, [draws]."""
        values = draws[:, serving, np.arange(len(serving))]
        return values @ self.weights - self.paid(serving)

    def totals_of_each(self, draws: np.ndarray, serving: np.ndarray) -> np.ndarray:
        """Return the value less prices of the assembly that belongs to each draw, [draws]."""
        pairs = zip(draws, serving, strict=True)
        return np.array([self.totals(draw[None], own)[0] for draw, own in pairs])

    def best_of_grouping(self, grouping: Grouping, available: np.ndarray) -> np.ndarray | None:
        """Return the serving networks of a grouping, each group with its best recipe; None where one is missing."""
        posterior = self._posterior
        if grouping.targets != posterior.tasks:
            raise GroupingError(
                f"alternatives must serve the targets {list(posterior.tasks)}, found {list(grouping.targets)}"
            )
        serving = np.empty(len(posterior.tasks), dtype=int)
        for group in grouping.groups:
            columns = [posterior.tasks.index(task) for task in group.serves]
            rows = [row for row in available if posterior.networks[row].tasks == group.targets]
            if not rows:
                return None
            values = posterior.mean[np.ix_(rows, columns)] @ self.weights[columns]
            serving[columns] = rows[int(np.argmax(values))]
        return serving

    def groups(self, serving: np.ndarray) -> tuple[Assembled, ...]:
        """Return the networks of an assembly with what they serve."""
        tasks = np.array(self._posterior.tasks)
        found = []
        for row in np.unique(serving):
            serves = tuple(str(task) for task in tasks[serving == row])
            found.append(Assembled(self._posterior.networks[row], serves))
        return tuple(sorted(found, key=lambda group: group.serves))

    def skills(self, serving: np.ndarray) -> dict[str, float]:
        """Return the expected skill of each target in an assembly."""
        mean = self._posterior.mean[serving, np.arange(len(serving))]
        return dict(zip(self._posterior.tasks, mean.tolist(), strict=True))


def _gains(
    posterior: SkillPosterior, draws: np.ndarray, serving: np.ndarray, singles: np.ndarray
) -> dict[str, Interval]:
    gains = {}
    for place, task in enumerate(posterior.tasks):
        if serving[place] == singles[place]:
            gains[task] = Interval(0.0, 0.0, 0.0, len(draws))
            continue
        drawn = draws[:, serving[place], place] - draws[:, singles[place], place]
        expected = posterior.mean[serving[place], place] - posterior.mean[singles[place], place]
        gains[task] = Interval(float(expected), *percentile_bounds(drawn), len(draws))
    return gains


def _probabilities(
    problem: _Problem,
    draws: np.ndarray,
    totals: np.ndarray,
    serving: np.ndarray,
    others: Mapping[str, np.ndarray | None],
) -> dict[str, float]:
    found = {}
    for name, other in others.items():
        if other is None:
            continue
        if (other == serving).all():
            found[name] = 0.5
            continue
        found[name] = float(np.mean(totals > problem.totals(draws, other)))
    return found


def _weights(weights: Mapping[str, float] | None, tasks: tuple[str, ...]) -> np.ndarray:
    given = dict(weights or {})
    for task, weight in given.items():
        if task not in tasks:
            raise GroupingError(f"weights: no network holds '{task}'; {did_you_mean(task, tasks)}")
        if not (np.isfinite(weight) and weight >= 0):
            raise GroupingError(f"weights: that of '{task}' must be a number >= 0, found {weight}")
    values = np.array([float(given.get(task, 1.0)) for task in tasks])
    if values.sum() == 0:
        raise GroupingError("weights: at least one must be positive, but all are 0")
    return values / values.sum()


def _numbers(name: str, given: Sequence[float] | float, n_networks: int) -> np.ndarray:
    values = np.asarray(given, dtype=float)
    if values.ndim == 0:
        values = np.full(n_networks, float(values))
    if values.shape != (n_networks,):
        raise GroupingError(f"{name} must be one number, or one for each of {n_networks} networks")
    if not np.isfinite(values).all() or (values < 0).any():
        raise GroupingError(f"{name} must be finite numbers >= 0, found {list(values[:5])}")
    return values
