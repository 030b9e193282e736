"""Proposals out of everything trained: the assembly that a model of all skills expects to gain most.

A trial that proposes so is made in three steps:

1. The recipe. The sampler has proposed one; the best recipes of earlier trials compete with it. Each is judged by a
   draw of the skills that the known sets would reach under it.
2. The assembly. Candidates are the best networks trained so far, under any recipe, and all sets of targets under the
   recipe of step 1. The assembly is the best one if another draw of their skills were true. An untrained network must
   bring more than ``_WORTH`` to enter it.
3. If nothing of it is new, bolder draws follow.

So a trial trains few networks, and what it takes from earlier trials costs nothing. The draws depend on the seed of the
study and the number of finished trials only, so that an interrupted study goes on as if it had not been.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskgroup.grouping import Group, Grouping
from taskgroup.grouping.expected import Assembled, hoped_assembly
from taskgroup.grouping.predict import Network, Observation, SkillModel, SkillPosterior
from taskgroup.search.evidence import network_of, observation_of
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.spec.space import settings_of
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupResult

# Mean skill that an untrained network must bring in a draw to be trained.
_WORTH = 5e-4
# Draws until one holds a network that is not trained, each bolder than the one before by this factor.
_DRAWS = 8
_BOLDER = 1.4
# Trained networks per target that may serve it in a proposal, and recipes that compete with that of the sampler.
_BEST_NETWORKS = 3
_BEST_RECIPES = 5
# Networks per target that are looked at in order to find these.
_LEADERS = 12
# Sets of targets that are considered. Up to eight targets these are all sets.
_SETS = 256
# Sets that recipes are compared on.
_PROBES = 12


@dataclass(frozen=True)
class LearnedTrial:
    """What a trial is to train: a plan, and the settings of the recipe of its new networks."""

    settings: dict[str, dict[str, Any]]
    plan: Plan


@dataclass(frozen=True)
class _Candidate:
    """A recipe that the new networks of a trial may have, with its settings by section."""

    recipe: Recipe
    settings: Mapping[str, Mapping[str, Any]]


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
        self._candidates: dict[Recipe, _Candidate] = {}
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

    def remember(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Let the recipe of a trial compete with those that the sampler proposes later."""
        candidate = _candidate(settings)
        self._candidates.setdefault(candidate.recipe, candidate)

    def propose(self, settings: Mapping[str, Mapping[str, Any]], index: int) -> LearnedTrial | None:
        """Return a trial that holds at least one new network; None where too little is known or nothing is new.

        ``settings`` are those the sampler proposed; ``index`` tells the draws of one trial from those of others.
        """
        if not self._is_ready():
            return None
        sampled = _candidate(settings)
        seeds = np.random.SeedSequence([self._config.search.seed, index]).generate_state(_DRAWS + 1)
        best = self._best_networks()
        chosen = self._best_recipe(sampled, best, int(seeds[0]))
        networks = self._considered(best, chosen.recipe)
        posterior = self._model.posterior(networks)
        prices = self._prices(posterior)
        boldness = 1.0
        for seed in seeds[1:]:
            groups = self._hoped(posterior, prices, boldness, int(seed))
            if any(group.network not in self._recipes for group in groups):
                plan = self._plan(groups, chosen.recipe)
                own = {section: dict(values) for section, values in chosen.settings.items()}
                return LearnedTrial({**own, "grouping": dict(settings["grouping"])}, plan)
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

    def _best_recipe(self, sampled: _Candidate, best: Sequence[Network], seed: int) -> _Candidate:
        """Return the recipe whose networks would serve the targets best if a draw of their skills were true."""
        candidates = self._rivals(sampled, best)
        if len(candidates) == 1:
            return sampled
        alone = [(target,) for target in self._targets]
        probes = list(dict.fromkeys([network.tasks for network in best[:_PROBES]] + alone))
        networks = []
        for candidate in candidates:
            networks += [network_of(targets, candidate.recipe) for targets in probes]
        draw = self._model.posterior(networks).sample(1, seed)[0]
        weights = np.array([self._weights[target] for target in self._model.tasks])
        by_recipe = draw.reshape(len(candidates), len(probes), -1)
        values = np.nanmax(by_recipe, axis=1) @ weights
        return candidates[int(np.argmax(values))]

    def _rivals(self, sampled: _Candidate, best: Sequence[Network]) -> list[_Candidate]:
        """Return the recipe of the sampler, then those of the best networks."""
        rivals = {sampled.recipe: sampled}
        for network in best:
            recipe = self._recipes[network]
            if recipe in self._candidates and len(rivals) <= _BEST_RECIPES:
                rivals.setdefault(recipe, self._candidates[recipe])
        return list(rivals.values())

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

    def _considered(self, best: Sequence[Network], recipe: Recipe) -> list[Network]:
        """Return the networks a proposal may consist of."""
        networks = dict.fromkeys(best)
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


def _candidate(settings: Mapping[str, Mapping[str, Any]]) -> _Candidate:
    _, model, training = settings_of(settings)
    return _Candidate(
        Recipe(model, training), {name: settings[name] for name in ("model", "training")}
    )


def _sets(targets: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all sets of targets, the small ones and that of all first; of many targets only so many."""
    found = [tuple(targets)]
    for size in range(1, len(targets)):
        for chosen in itertools.combinations(targets, size):
            found.append(chosen)
            if len(found) >= _SETS:
                return found
    return found
