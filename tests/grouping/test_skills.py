"""The skill model: against a dense Gaussian process, made-up truths with recipes, repeats and folds, and its limits."""

import itertools
import time

import numpy as np
import pytest

from taskgroup.errors import GroupingError
from taskgroup.grouping.predict import Network, Observation, SkillModel
from taskgroup.grouping.predict._kernel import SkillKernel

TASKS = ("a", "b", "c", "d")
SETS = [s for size in range(1, 5) for s in itertools.combinations(TASKS, size)]


class Truth:
    """Skills of four targets: helpers add up, the width of the network matters, folds and seeds move the results."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.helps = dict(
            zip(itertools.permutations(TASKS, 2), random.normal(0, 0.06, 12), strict=True)
        )
        self.of_width = {task: random.normal(0, 0.05) for task in TASKS}
        self.of_fold = random.normal(0, 0.05, (4, 3))
        self.noise = random.uniform(0.01, 0.04, 4)
        self.random = random

    def expected(self, network):
        width = dict(network.recipe).get("width", 8)
        found = {}
        for task in network.tasks:
            helped = sum(self.helps[task, other] for other in network.tasks if other != task)
            found[task] = 0.6 + helped + self.of_width[task] * np.log2(width / 8)
        return found

    def train(self, network, seed=0, fold=0):
        scores = {}
        for task, value in self.expected(network).items():
            place = TASKS.index(task)
            noise = self.noise[place] * self.random.normal()
            scores[task] = value + self.of_fold[place, fold] + noise
        return Observation(network, scores, seed, fold)


def random_network(random):
    return Network(SETS[random.integers(len(SETS))], {"width": int(random.choice([8, 16, 32]))})


def trained(truth, n, seed=0):
    random = np.random.default_rng(seed)
    first = [truth.train(Network(TASKS, {"width": 8}))]
    return first + [
        truth.train(random_network(random), number, int(random.integers(3))) for number in range(n)
    ]


def test_new_seeds_fall_inside_one_and_two_spreads():
    errors = []
    for case in range(25):
        truth = Truth(case)
        model = SkillModel().fit(trained(truth, 30, case))
        networks = [random_network(np.random.default_rng(100 + i)) for i in range(20)]
        posterior = model.posterior(networks, fold=1)
        spread = posterior.single_spread()
        for row, network in enumerate(networks):
            for task, value in truth.train(network, 99, fold=1).scores.items():
                place = TASKS.index(task)
                errors.append(abs(value - posterior.mean[row, place]) / spread[row, place])
    errors = np.array(errors)
    assert 0.62 < (errors <= 1).mean() < 0.82
    assert 0.91 < (errors <= 2).mean() < 0.985


def test_the_noise_is_learned_from_repeats():
    truth = Truth(3)
    networks = [Network(tasks) for tasks in SETS]
    results = [truth.train(network, seed) for network in networks for seed in range(6)]
    posterior = SkillModel().fit(results).posterior(networks[:1])
    np.testing.assert_allclose(np.sqrt(posterior.noise), truth.noise, rtol=0.35)


def test_a_fold_moves_all_networks_alike():
    truth = Truth(5)
    truth.of_fold = np.tile([0.0, 0.2, -0.2], (4, 1))
    model = SkillModel().fit(trained(truth, 60))
    network = Network(TASKS, {"width": 8})
    easy, hard = (model.posterior([network], fold=fold).mean for fold in (1, 2))
    np.testing.assert_allclose(easy - hard, 0.4, atol=0.08)


def test_repeats_make_the_posterior_narrower():
    truth = Truth(7)
    results = trained(truth, 30)
    network = Network(("a", "b"), {"width": 8})
    repeats = [truth.train(network, seed) for seed in range(100, 112)]
    few = SkillModel().fit([*results, *repeats[:1]]).posterior([network], fold=0)
    many = SkillModel().fit([*results, *repeats]).posterior([network], fold=0)
    assert (many.spread[0, :2] < 0.6 * few.spread[0, :2]).all()
    measured = [np.mean([result.scores[task] for result in repeats]) for task in "ab"]
    assert (np.abs(many.mean[0, :2] - measured) < 2 * many.spread[0, :2]).all()


def test_the_effect_of_a_recipe_is_carried_over_to_sets_not_trained_with_it():
    truth = Truth(1)
    truth.of_width = dict.fromkeys(TASKS, 0.1)
    truth.of_fold[:] = 0.0
    narrow = [truth.train(Network(tasks, {"width": 8})) for tasks in SETS]
    wide = [truth.train(Network(tasks, {"width": 32})) for tasks in SETS[:8]]
    posterior = SkillModel().fit(narrow + wide).posterior([Network(TASKS, {"width": 32})])
    expected = list(truth.expected(Network(TASKS, {"width": 32})).values())
    assert (np.abs(posterior.mean[0] - expected) < 0.1).all()


def test_further_results_change_the_posterior_as_a_new_fit_with_the_same_variances_does():
    truth = Truth(2)
    results = trained(truth, 40)
    whole = SkillModel().fit(results)
    # The same variances, scales and order of networks; four results come later, below the growth that learns again.
    early = SkillModel().fit(results[:40])
    late = SkillModel().fit(results[:40]).update(results[40:])
    networks = [Network(tasks, {"width": 8}) for tasks in SETS]
    after, before, expected = (m.posterior(networks) for m in (late, early, whole))
    assert late.n_observations == 41
    moved = np.nanmax(np.abs(after.mean - before.mean))
    assert moved > 1e-4
    assert np.nanmax(np.abs(after.mean - expected.mean)) < 0.05


def test_a_model_of_full_capacity_is_the_dense_gaussian_process():
    truth = Truth(4)
    results = trained(truth, 25)
    model = SkillModel().fit(results)
    process, kernel = model._processes[0], model._kernel
    own = [result for result in results if "a" in result.scores]
    rows = kernel.rows([result.network for result in own])
    values = (np.array([result.scores["a"] for result in own]) - model._level[0]) / model._spread[0]
    folds = np.array([result.fold for result in own])
    signal = kernel.matrix(rows, rows, 0, process._variances)
    signal += process.fold_variance * (folds[:, None] == folds[None, :])
    covariance = signal + process._noise * np.eye(len(own))
    asked = kernel.rows([Network(tasks, {"width": 16}) for tasks in SETS if "a" in tasks])
    across = kernel.matrix(asked, rows, 0, process._variances)
    solved = np.linalg.solve(covariance, across.T)
    expected_covariance = kernel.matrix(asked, asked, 0, process._variances) - across @ solved
    mean, found = process.expect(asked)
    np.testing.assert_allclose(mean, solved.T @ values, atol=1e-6)
    np.testing.assert_allclose(found, process.inflation * expected_covariance, atol=1e-6)
    np.testing.assert_allclose(
        np.diag(kernel.matrix(asked, asked, 0, process._variances)),
        kernel.diagonal(asked, 0, process._variances),
    )


def test_a_small_capacity_loses_little_and_knows_it():
    truth = Truth(6)
    truth.of_fold[:] = 0.0
    results = trained(truth, 150)
    networks = [Network(tasks, {"width": width}) for tasks in SETS for width in (8, 32)]
    expected = np.array(
        [[truth.expected(network).get(task, np.nan) for task in TASKS] for network in networks]
    )
    posterior = SkillModel(capacity=12).fit(results).posterior(networks)
    errors = np.abs(expected - posterior.mean) / posterior.spread
    assert (errors[np.isfinite(errors)] <= 2).mean() > 0.85


def test_samples_have_the_mean_and_covariance_of_the_posterior():
    posterior = SkillModel().fit(trained(Truth(8), 20)).posterior([Network(s) for s in SETS])
    draws = posterior.sample(20_000, seed=1)
    assert np.isnan(draws[:, ~posterior.member]).all()
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=0.005)
    members = posterior.member[:, 2]
    found = np.cov(draws[:, members, 2].T)
    scale = np.diag(posterior.covariances[2]).max()
    np.testing.assert_allclose(found, posterior.covariances[2], atol=0.05 * scale)


def test_one_failed_training_does_not_spoil_the_scale():
    truth = Truth(9)
    results = trained(truth, 30)
    failed = Observation(Network(TASKS, {"width": 32}), dict.fromkeys(TASKS, -50.0))
    networks = [Network(tasks, {"width": 8}) for tasks in SETS]
    usual = SkillModel().fit(results).posterior(networks)
    with_failure = SkillModel().fit([*results, failed]).posterior(networks)
    assert np.nanmax(np.abs(usual.mean - with_failure.mean)) < 0.2


def test_ten_thousand_results_are_no_trouble():
    truth = Truth(0)
    results = trained(truth, 10_000)
    started = time.process_time()
    model = SkillModel(capacity=64).fit(results)
    learning = time.process_time() - started
    started = time.process_time()
    model.update(trained(truth, 5))
    model.posterior([random_network(np.random.default_rng(i)) for i in range(100)])
    assert time.process_time() - started < 0.5
    assert learning < 30


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SkillModel().fit([]), "at least one result, found none"),
        (lambda: Network(()), "at least one name"),
        (lambda: Network(("a", "a")), "named once"),
        (lambda: Observation(Network(("a",)), {"b": 1.0}), "targets of the network"),
        (lambda: Observation(Network(("a",)), {"a": float("nan")}), "finite number, found nan"),
        (lambda: SkillModel().fit([Observation(Network(("a", "b")), {"a": 1.0})]), "'b' has none"),
        (
            lambda: (
                SkillModel()
                .fit([Observation(Network(("gap",)), {"gap": 1.0})])
                .posterior([Network(("gab",))])
            ),
            "did you mean 'gap'",
        ),
    ],
)
def test_bad_requests_are_named(make, told):
    with pytest.raises(GroupingError, match=told):
        make()


def test_the_covariance_is_the_sum_of_its_parts():
    random = np.random.default_rng(0)
    tasks = ("a", "b", "c", "d", "e")
    recipes = [
        {"lr": 0.001, "net": "x"}, {"lr": 0.1, "net": "x"}, {"lr": 0.1, "net": "y", "deep": 3},
    ]  # fmt: skip
    networks = []
    for _ in range(40):
        chosen = [task for task in tasks if random.random() < 0.6] or ["a"]
        networks.append(Network(tuple(chosen), recipes[random.integers(3)]))
    kernel = SkillKernel(tasks, [network.recipe for network in networks])
    holding = [network for network in networks if "a" in network.tasks]
    left, right = kernel.rows(holding), kernel.rows(holding[:7])
    variances = random.random(len(kernel.parts))
    summed = np.tensordot(variances, kernel.components(left, right, 0), axes=1)
    assert np.allclose(kernel.matrix(left, right, 0, variances), summed, rtol=0, atol=1e-12)
