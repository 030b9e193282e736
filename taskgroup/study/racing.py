"""Choosing by what is expected: repeats with new seeds are spent where the choice of the grouping hangs on them.

The validation value of a network is one draw of many, and the best of many draws is partly luck. So the choice is made
by a model of everything trained, which shrinks single values towards what like networks reach. It also says which
training would improve the choice most (knowledge gradient); those are made, until none is worth a training or the
budget is used. The networks are trained with the seeds and folds of the bundle's members, so that none is in vain.

Decisions depend on the search and the repeats made so far in their order, neither on what else lies in the run folder
nor on how long a training took. So a race that was interrupted goes on as if it had not been, and equal studies choose
alike.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from taskgroup.errors import InfeasibleError, TaskgroupError
from taskgroup.execution.evaluator import Evaluator
from taskgroup.grouping import Group, Grouping
from taskgroup.grouping.expected import ExpectedAssembly, Proposal, expected_assembly
from taskgroup.grouping.predict import Network, SkillModel, SkillPosterior
from taskgroup.search.evidence import network_of, observation_of
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)

# Networks per target among which the choice is made: those expected to serve it best.
_CONTENDERS = 8
# Rounds of training the choice to its end and choosing again.
_ROUNDS = 3
# Proposals of a round: some networks may have all their repeats.
_PROPOSALS = 40
# The choice is settled once it is expected to fall short of the best choice by less than this, in mean skill.
_SETTLED = 1e-3


class Race:
    """Trains networks again and chooses among them.

    Parameters
    ----------
    config: the study.
    data: its rows and targets.
    evaluator: trains what is missing.
    searched: results of the search, in the order of its trials.
    alternatives: groupings that the choice is compared with, by name.
    """

    def __init__(
        self,
        config: StudyConfig,
        data: StudyData,
        evaluator: Evaluator,
        searched: Sequence[GroupResult],
        alternatives: Mapping[str, Grouping],
    ) -> None:
        self._config = config
        self._data = data
        self._evaluator = evaluator
        self._alternatives = dict(alternatives)
        self._weights = config.objective.weights_of(data.targets.names)
        self._recipes: dict[Network, Recipe] = {}
        self._seconds: dict[Network, float] = {}
        self._n_repeats: dict[Network, int] = {}
        self._failed: set[Network] = set()
        self._last_failure = ""
        self._model = SkillModel()
        self._observe(searched)
        self.n_trained = 0
        """Trainings that the race has asked for."""

    def _observe(self, results: Iterable[GroupResult]) -> None:
        observations = []
        for result in results:
            recipe = Recipe.of_job(result.job)
            network = network_of(result.targets, recipe)
            self._recipes[network] = recipe
            self._seconds.setdefault(network, result.seconds)
            observations.append(observation_of(result))
        if observations:
            self._model.update(observations)

    def run(self) -> tuple[Plan, ExpectedAssembly]:
        """Train until the choice is settled, and return it with all members of its networks trained.

        Raises TaskgroupError: no choice of networks that could be trained again serves all targets.
        """
        self._check_targets()
        try:
            self._train_until_whole()
            chosen = self.expect(only_whole=True)
        except InfeasibleError:
            raise TaskgroupError(
                f"some targets could not be trained again, in no group: {self._last_failure}; "
                "go on with 'taskgroup resume'"
            ) from None
        return self.plan(chosen), chosen

    def _check_targets(self) -> None:
        for target in self._data.targets.names:
            if target not in self._model.tasks:
                raise TaskgroupError(
                    f"no network of '{target}' could be trained; see the trials' fail_reason"
                )

    def _train_until_whole(self) -> None:
        """Repeat, choose and complete the choice, until what is chosen then is complete."""
        n_rounds = 0
        while n_rounds < _ROUNDS:
            n_failed = len(self._failed)
            self.repeat_until_settled()
            self._complete(self.plan(self.expect()))
            if self._is_whole(self.expect()):
                return
            # A network that fails leaves the race, so another choice is needed; there are only so many.
            if len(self._failed) == n_failed:
                n_rounds += 1

    def plan(self, assembly: ExpectedAssembly) -> Plan:
        """Return an assembly as a plan."""
        grouping = assembly.grouping()
        recipe_of_targets = {
            group.network.tasks: self._recipes[group.network] for group in assembly.groups
        }
        return Plan(grouping, tuple(recipe_of_targets[group.targets] for group in grouping.groups))

    def repeat_until_settled(self) -> None:
        """Train what would improve the choice most, until nothing is worth a training or the budget is used."""
        while True:
            assembly = self.expect()
            # The choice itself is trained again in any case.
            most = (self._config.refit.top - 1) * len(assembly.groups) * self._members
            proposal = self._first_possible(assembly.proposals)
            # The value of one training alone says too little: often only several together can change the choice.
            is_settled = assembly.expected_regret < _SETTLED
            if is_settled or proposal is None or self.n_trained >= most:
                return
            self._train(proposal.network, proposal.repeats)

    def _first_possible(self, proposals: Sequence[Proposal]) -> Proposal | None:
        """Return the first proposal whose network has repeats left."""
        for proposal in proposals:
            if self._n_repeats.get(proposal.network, 0) < self._members:
                return proposal
        return None

    @property
    def _members(self) -> int:
        return len(self._data.member_repeats)

    def _train(self, network: Network, repeats: int) -> None:
        """Train a network with the next repeats that it has not had."""
        done = self._n_repeats.get(network, 0)
        wanted = self._data.member_repeats[done : done + repeats]
        grouping = Grouping([Group(network.tasks, network.tasks)])
        plan = Plan(grouping, (self._recipes[network],))
        evaluation = self._evaluator.evaluate(plan, wanted, keep=True)
        self.n_trained += len(wanted)
        if evaluation.failure is not None:
            self._failed.add(network)
            self._last_failure = evaluation.failure.reason
            names = ", ".join(network.tasks)
            _log.warning("%s could not be trained again: %s", names, evaluation.failure.reason)
            return
        self._n_repeats[network] = done + len(wanted)
        self._observe(sorted(evaluation.results, key=lambda result: result.job.seed))

    def _complete(self, plan: Plan) -> None:
        """Train all members of a plan, and of every target alone, which the gains are measured against."""
        for part in (plan, plan.alone()):
            for group, recipe in part:
                network = network_of(group.targets, recipe)
                self._recipes.setdefault(network, recipe)
                left = self._members - self._n_repeats.get(network, 0)
                if left and network not in self._failed:
                    self._train(network, left)

    def _is_whole(self, assembly: ExpectedAssembly) -> bool:
        return all(group.network in self._whole() for group in assembly.groups)

    def _whole(self) -> set[Network]:
        return {network for network, done in self._n_repeats.items() if done == self._members}

    def expect(self, *, only_whole: bool = False) -> ExpectedAssembly:
        """Return the assembly expected to be best now; of networks with all their members where asked."""
        posterior = self._model.posterior(self._contenders())
        assembly = self._config.assembly
        return expected_assembly(
            posterior,
            networks=assembly.max_networks,
            disjoint=assembly.disjoint,
            weights=self._weights,
            prices=self._prices(posterior),
            alternatives=self._alternatives,
            choose_from=self._whole() if only_whole else None,
            n_proposals=_PROPOSALS,
            seed=self._config.search.seed,
        )

    def _contenders(self) -> list[Network]:
        """Return the networks among which the choice is made, and those of the alternatives."""
        known = [network for network in self._recipes if network not in self._failed]
        if not known:
            raise InfeasibleError("every network failed")
        mean = self._model.posterior_mean(known)
        filled = np.where(np.isfinite(mean), mean, -np.inf)
        contenders = dict.fromkeys(self._whole())
        for task in range(filled.shape[1]):
            best = np.argsort(-filled[:, task], kind="stable")[:_CONTENDERS]
            members = [place for place in best if np.isfinite(mean[place, task])]
            contenders |= dict.fromkeys(known[place] for place in members)
        compared = {(target,) for target in self._data.targets.names}
        compared.add(tuple(sorted(self._data.targets.names)))
        for grouping in self._alternatives.values():
            compared.update(group.targets for group in grouping.groups)
        contenders |= dict.fromkeys(network for network in known if network.tasks in compared)
        # In the order they were trained, so that equal results give equal numbers.
        return [network for network in known if network in contenders]

    def _prices(self, posterior: SkillPosterior) -> list[float]:
        price = self._config.objective.price
        return [price.of(self._seconds[network]) for network in posterior.networks]
