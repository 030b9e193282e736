"""Proposals out of everything trained: the assembly that a model of all skills expects to gain most.

A trial that proposes so takes its recipe from the sampler. Candidates are the best networks trained so far, under any
recipe, and all sets of targets under the recipe of the trial. The assembly is the best one if a draw of their skills
were true; an untrained network must bring more than ``_WORTH`` to enter it. If nothing of it is new, bolder draws
follow. So a trial trains few networks, and what it takes from earlier trials costs nothing.

The draws depend on the seed of the study and the number of finished trials only, so that an interrupted study goes on
as if it had not been.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from taskgroup.grouping import Group, Grouping
from taskgroup.grouping.expected import Assembled, hoped_assembly
from taskgroup.grouping.predict import Network, Observation, SkillModel, SkillPosterior
from taskgroup.search.evidence import network_of, observation_of
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupResult

# Mean skill that an untrained network must bring in a draw to be trained.
_WORTH = 5e-4
# Factor on the distance of a draw from the expected skills. Thompson sampling (1) is too hopeful here: of hundreds of
# untrained sets some draw is always high.
_BOLDNESS = 0.5
# Draws until one holds a network that is not trained, each bolder than the one before by this factor.
_DRAWS = 8
_BOLDER = 1.5
# Trained networks per target that may serve it in a proposal.
_BEST_NETWORKS = 3
# Networks per target that are looked at in order to find these.
_LEADERS = 12
# Sets of targets that are considered. Up to eight targets these are all sets.
_SETS = 256


class LearnedProposals:
    """Learns from the networks of finished trials, and proposes plans; to be called under a lock.

    Parameters
    ----------
    config: the study.
    targets: names of its targets.
    """

    def __init__(self, config: StudyConfig, targets: Sequence[str]) -> None:
        self._config = config
        self._targets = tuple(sorted(targets))
        self._weights = config.objective.weights_of(self._targets)
        self._model = SkillModel()
        self._recipes: dict[Network, Recipe] = {}
        # Of plans whose networks were stopped or failed: they are not proposed again.
        self._given_up: set[Network] = set()
        self._seconds: dict[Network, float] = {}
        self._waiting: list[Observation] = []
        self._sets = _sets(self._targets)
        self._leaders = _Leaders(self._targets)

    def learn(self, record: TrialRecord, results: Iterable[GroupResult]) -> None:
        """Take in a finished trial and the results of its networks."""
        for result in results:
            recipe = Recipe.of_job(result.job)
            network = network_of(result.targets, recipe)
            self._recipes[network] = recipe
            self._seconds[network] = result.seconds
            observation = observation_of(result)
            self._leaders.add(observation)
            self._waiting.append(observation)
        if record.plan is None:
            return
        for group, recipe in Plan.from_dict(record.plan):
            network = network_of(group.targets, recipe)
            if network not in self._recipes:
                self._given_up.add(network)

    def propose(self, recipe: Recipe, index: int) -> Plan | None:
        """Return a plan that holds at least one new network; None where too little is known or nothing is new.

        New networks have the recipe given; ``index`` tells the draws of one trial from those of others.
        """
        if not self._is_ready():
            return None
        posterior = self._model.posterior(self._considered(recipe))
        prices = self._prices(posterior)
        seeds = np.random.SeedSequence([self._config.search.seed, index]).generate_state(_DRAWS)
        boldness = _BOLDNESS
        for seed in seeds:
            groups = self._hoped(posterior, prices, boldness, int(seed))
            if any(group.network not in self._recipes for group in groups):
                return self._plan(groups, recipe)
            boldness *= _BOLDER
        return None

    def _is_ready(self) -> bool:
        """Learn what has waited, and return whether all targets are known."""
        if self._waiting:
            self._observe()
        return self._model.n_observations > 0 and self._model.tasks == self._targets

    def _observe(self) -> None:
        known = set(self._model.tasks)
        for observation in self._waiting:
            known.update(observation.network.tasks)
        # The model needs a result of every target.
        if known == set(self._targets):
            self._model.update(self._waiting)
            self._waiting = []

    def _best_networks(self) -> list[Network]:
        """Return the trained networks that are expected to serve some target best, the best of each target first."""
        leaders = self._leaders.networks()
        mean = self._model.posterior_mean(leaders)
        filled = np.where(np.isfinite(mean), mean, -np.inf)
        in_order = np.argsort(-filled, axis=0, kind="stable")[:_BEST_NETWORKS]
        best: dict[Network, None] = {}
        for places in in_order:
            for task, place in enumerate(places):
                if np.isfinite(mean[place, task]):
                    best.setdefault(leaders[place])
        return list(best)

    def _considered(self, recipe: Recipe) -> list[Network]:
        """Return the networks a proposal may consist of."""
        networks = dict.fromkeys(self._best_networks())
        for targets in self._sets:
            networks.setdefault(network_of(targets, recipe))
        return [network for network in networks if network not in self._given_up]

    def _prices(self, posterior: SkillPosterior) -> np.ndarray:
        """Return what each network must bring: its price in the assembly, and what its training must be worth."""
        price = self._config.objective.price
        typical = float(np.median(list(self._seconds.values())))
        prices = []
        for network, trained in zip(posterior.networks, posterior.n_trained, strict=True):
            paid = price.of(self._seconds.get(network, typical))
            prices.append(paid if trained else paid + _WORTH)
        return np.array(prices)

    def _hoped(
        self, posterior: SkillPosterior, prices: np.ndarray, boldness: float, seed: int
    ) -> tuple[Assembled, ...]:
        assembly = self._config.assembly
        return hoped_assembly(
            posterior,
            networks=assembly.max_networks,
            disjoint=assembly.disjoint,
            weights=self._weights,
            prices=prices,
            boldness=boldness,
            seed=seed,
        )

    def _plan(self, groups: Sequence[Assembled], recipe: Recipe) -> Plan:
        recipe_of_targets: dict[tuple[str, ...], Recipe] = {}
        for group in groups:
            recipe_of_targets[group.network.tasks] = self._recipes.get(group.network, recipe)
        grouping = Grouping(Group(group.network.tasks, group.serves) for group in groups)
        return Plan(grouping, tuple(recipe_of_targets[group.targets] for group in grouping.groups))


class _Leaders:
    """The trained networks with the highest skills of each target, single results taken at face value.

    A model that looked at all networks of a long study would take ever longer; the best one is among these.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self._best: dict[str, list[tuple[float, Network]]] = {target: [] for target in targets}

    def add(self, observation: Observation) -> None:
        """Take in a result."""
        for target, skill in observation.scores.items():
            best = self._best[target]
            if len(best) < _LEADERS or skill > best[-1][0]:
                best.append((skill, observation.network))
                best.sort(key=lambda pair: -pair[0])
                del best[_LEADERS:]

    def networks(self) -> list[Network]:
        """Return them, each once."""
        found: dict[Network, None] = {}
        for best in self._best.values():
            for _, network in best:
                found.setdefault(network)
        return list(found)


def _sets(targets: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all sets of targets, the small ones and that of all first; of many targets only so many."""
    found = [tuple(targets)]
    for size in range(1, len(targets)):
        for chosen in itertools.combinations(targets, size):
            found.append(chosen)
            if len(found) >= _SETS:
                return found
    return found
