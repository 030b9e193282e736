"""Proposals out of everything trained: better than chance, repeatable, never twice the same."""

from collections.abc import Sequence

import pytest

from taskgroup.grouping import Grouping
from taskgroup.search.learning import LearnedProposals, LearnedTrial
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe, flat_settings
from taskgroup.spec.space import settings_of
from taskgroup.spec.space_check import load_space
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupJob, GroupResult

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


def settings(lr: float = 0.003) -> dict:
    return {
        "grouping": {"proposal": "expected"},
        "model": {"backbone": "descriptors"},
        "training": {"lr": lr},
    }


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

    def train(self, plan: Plan, own: dict) -> None:
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
            objective=0.5, skills={}, gains={}, settings=flat_settings(own), state="COMPLETE",
            fail_kind=None, fail_reason=None, keys=(), n_cached=0, seconds=1.0, plan=plan.to_dict(),
        )  # fmt: skip
        self.n_trials += 1
        self.proposals.learn(record, results)
        self.proposals.remember(own)

    def begin(self) -> None:
        _, model, training = settings_of(settings())
        for grouping in (Grouping.singles(TARGETS), Grouping.together(TARGETS)):
            self.train(Plan.uniform(grouping, Recipe(model, training)), settings())

    def propose(self, lr: float = 0.003) -> LearnedTrial | None:
        return self.proposals.propose(settings(lr), self.n_trials)


def test_nothing_is_proposed_before_all_targets_are_known():
    world = World(study())
    assert world.propose() is None
    _, model, training = settings_of(settings())
    pair = Plan.uniform(Grouping.together(("a", "b")), Recipe(model, training))
    world.train(pair, settings())
    assert world.propose() is None


def test_every_proposal_serves_all_targets_and_trains_something_new():
    world = World(study())
    world.begin()
    for number in range(8):
        proposed = world.propose(0.01 if number % 2 else 0.003)
        assert proposed.plan.grouping.targets == TARGETS
        networks = {(group.targets, recipe) for group, recipe in proposed.plan}
        assert not networks <= world.trained.keys()
        world.train(proposed.plan, proposed.settings)


def test_the_pair_that_helps_is_found_among_all_sets():
    world = World(study())
    world.begin()
    for _ in range(4):
        proposed = world.propose()
        world.train(proposed.plan, proposed.settings)
    assert ("a", "b") in {targets for targets, _ in world.trained}


def test_the_better_recipe_wins_whatever_the_sampler_proposes():
    world = World(study())
    world.begin()
    _, model, training = settings_of(settings(0.01))
    world.train(Plan.uniform(Grouping.singles(TARGETS), Recipe(model, training)), settings(0.01))
    rates = []
    for _ in range(6):
        proposed = world.propose(lr=0.003)
        rates.append(proposed.settings["training"]["lr"])
        world.train(proposed.plan, proposed.settings)
    assert rates.count(0.01) > rates.count(0.003)


def test_the_settings_of_a_proposal_are_those_of_its_new_networks():
    world = World(study())
    world.begin()
    for lr in (0.01, 0.003, 0.01):
        proposed = world.propose(lr)
        own = proposed.settings["training"]["lr"]
        for group, recipe in proposed.plan:
            if (group.targets, recipe) not in world.trained:
                assert recipe.training.lr == own
        world.train(proposed.plan, proposed.settings)


def test_equal_seeds_and_trials_give_equal_proposals_and_others_do_not():
    plans = []
    for seed in (0, 0, 1):
        world = World(study(search={"seed": seed}))
        world.begin()
        plans.append([])
        for _ in range(5):
            proposed = world.propose()
            plans[-1].append(proposed.plan.to_dict())
            world.train(proposed.plan, proposed.settings)
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_a_network_that_was_given_up_is_not_proposed_again():
    world = World(study())
    world.begin()
    proposed = world.propose()
    record = TrialRecord(
        number=9, kind="trial", name="trial-9", grouping=proposed.plan.grouping, objective=None,
        skills={}, gains={}, settings=flat_settings(proposed.settings), state="PRUNED",
        fail_kind=None, fail_reason=None, keys=(), n_cached=0, seconds=1.0,
        plan=proposed.plan.to_dict(),
    )  # fmt: skip
    new = {
        (group.targets, recipe)
        for group, recipe in proposed.plan
        if (group.targets, recipe) not in world.trained
    }
    world.proposals.learn(record, [])
    for index in range(10, 18):
        again = world.proposals.propose(settings(), index)
        if again is not None:
            assert not new & {(group.targets, recipe) for group, recipe in again.plan}


@pytest.mark.parametrize("limit", [1, 2])
def test_proposals_keep_to_the_number_of_networks(limit):
    world = World(study(assembly={"max_networks": limit}))
    world.begin()
    for _ in range(4):
        proposed = world.propose(0.01)
        if proposed is not None:
            assert len(proposed.plan.grouping) <= limit
            world.train(proposed.plan, proposed.settings)


def test_a_target_out_of_focus_gets_no_network_of_its_own():
    world = World(study(objective={"focus": ["a"], "price": {"networks": 0.01}}))
    world.begin()
    for _ in range(3):
        proposed = world.propose()
        assert len(proposed.plan.grouping) <= 2
        world.train(proposed.plan, proposed.settings)
