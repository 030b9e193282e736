"""Proposals out of everything trained: better than chance, repeatable, never twice the same."""

from collections.abc import Sequence

import pytest

from taskgroup.grouping import Grouping
from taskgroup.models import ModelConfig
from taskgroup.search.learning import LearnedProposals
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.spec.space_check import load_space
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupJob, GroupResult, TrainConfig

TARGETS = ("a", "b", "c", "d")
SPLIT = {"by": "random", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
SPACE = load_space(
    {
        "grouping": {"proposal": {"choices": ["cluster", "expected"]}},
        "model": {"backbone": "descriptors"},
        "training": {"lr": {"choices": [0.003, 0.01]}},
    }
)


def study(**changes) -> StudyConfig:
    return StudyConfig(name="study", dataset="none", space=SPACE, **changes)


def recipe_of(lr: float) -> Recipe:
    return Recipe(ModelConfig(backbone="descriptors"), TrainConfig(lr=lr))


RECIPES = {lr: recipe_of(lr) for lr in (0.003, 0.01)}


def skill(target: str, targets: Sequence[str], lr: float) -> float:
    """``a`` and ``b`` help each other, ``c`` and ``d`` hurt all others; the larger rate is better."""
    helped = 0.1 * ({"a", "b"} <= set(targets) and target in "ab")
    hurt = 0.08 * len(set(targets) & {"c", "d"} - {target})
    return 0.5 + helped - hurt + 15 * lr


class World:
    """Trains what is proposed at once."""

    def __init__(self, config: StudyConfig) -> None:
        self.proposals = LearnedProposals(config, TARGETS)
        self.trained: dict[tuple, GroupResult] = {}
        self.n_trials = 0

    def train(self, plan: Plan) -> None:
        results = []
        for group, recipe in plan:
            key = group.targets, recipe
            lr = recipe.training.lr
            metrics = {t: {"n": 9, "skill": skill(t, group.targets, lr)} for t in group.targets}
            job = GroupJob(group.targets, recipe.model, recipe.training, 0, "none", "hash", SPLIT)
            self.trained[key] = GroupResult(job, metrics, (), 1.0, 1, 1, 1)
            results.append(self.trained[key])
        record = TrialRecord(
            number=self.n_trials, kind="trial", name=f"trial-{self.n_trials}", grouping=plan.grouping,
            objective=0.5, skills={}, gains={}, settings={}, state="COMPLETE",
            fail_kind=None, fail_reason=None, keys=(), n_cached=0, seconds=1.0, plan=plan.to_dict(),
        )  # fmt: skip
        self.n_trials += 1
        self.proposals.learn(record, results)

    def begin(self) -> None:
        for grouping in (Grouping.singles(TARGETS), Grouping.together(TARGETS)):
            self.train(Plan.uniform(grouping, RECIPES[0.003]))

    def propose(self, lr: float = 0.003) -> Plan | None:
        return self.proposals.propose(RECIPES[lr], self.n_trials)


def test_nothing_is_proposed_before_all_targets_are_known():
    world = World(study())
    assert world.propose() is None
    world.train(Plan.uniform(Grouping.together(("a", "b")), RECIPES[0.003]))
    assert world.propose() is None


def test_every_proposal_serves_all_targets_and_trains_something_new():
    world = World(study())
    world.begin()
    for number in range(8):
        proposed = world.propose(0.01 if number % 2 else 0.003)
        assert proposed.grouping.targets == TARGETS
        networks = {(group.targets, recipe) for group, recipe in proposed}
        assert not networks <= world.trained.keys()
        world.train(proposed)


def test_the_pair_that_helps_is_found_among_all_sets():
    world = World(study())
    world.begin()
    for _ in range(4):
        proposed = world.propose()
        world.train(proposed)
    assert ("a", "b") in {targets for targets, _ in world.trained}


def test_new_networks_have_the_recipe_that_the_sampler_proposed():
    world = World(study())
    world.begin()
    for lr in (0.01, 0.003, 0.01):
        plan = world.propose(lr)
        for group, recipe in plan:
            if (group.targets, recipe) not in world.trained:
                assert recipe.training.lr == lr
        world.train(plan)


def test_targets_are_taken_from_the_recipe_that_serves_them_best():
    world = World(study())
    world.begin()
    singles = Plan.uniform(Grouping.singles(TARGETS), RECIPES[0.01])
    world.train(singles)
    plan = world.propose(0.003)
    rates = [
        recipe.training.lr for group, recipe in plan if (group.targets, recipe) in world.trained
    ]
    assert set(rates) <= {0.01}


def test_equal_seeds_and_trials_give_equal_proposals_and_others_do_not():
    plans = []
    for seed in (0, 0, 1):
        world = World(study(search={"seed": seed}))
        world.begin()
        plans.append([])
        for _ in range(5):
            proposed = world.propose()
            plans[-1].append(proposed.to_dict())
            world.train(proposed)
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_a_network_that_was_given_up_is_not_proposed_again():
    world = World(study())
    world.begin()
    proposed = world.propose()
    record = TrialRecord(
        number=9, kind="trial", name="trial-9", grouping=proposed.grouping, objective=None,
        skills={}, gains={}, settings={}, state="PRUNED",
        fail_kind=None, fail_reason=None, keys=(), n_cached=0, seconds=1.0,
        plan=proposed.to_dict(),
    )  # fmt: skip
    new = {
        (group.targets, recipe)
        for group, recipe in proposed
        if (group.targets, recipe) not in world.trained
    }
    world.proposals.learn(record, [])
    for index in range(10, 18):
        again = world.proposals.propose(RECIPES[0.003], index)
        if again is not None:
            assert not new & {(group.targets, recipe) for group, recipe in again}


@pytest.mark.parametrize("limit", [1, 2])
def test_proposals_keep_to_the_number_of_networks(limit):
    world = World(study(assembly={"max_networks": limit}))
    world.begin()
    for _ in range(4):
        proposed = world.propose(0.01)
        if proposed is not None:
            assert len(proposed.grouping) <= limit
            world.train(proposed)


def test_a_target_out_of_focus_gets_no_network_of_its_own():
    world = World(study(objective={"focus": ["a"], "price": {"networks": 0.01}}))
    world.begin()
    for _ in range(3):
        proposed = world.propose()
        assert len(proposed.grouping) <= 2
        world.train(proposed)
