"""Gradient affinities on models whose answers are known in closed form, and against second implementations."""

import numpy as np
import pytest
import torch
from torch import nn

from taskgroup.affinity import Affinity
from taskgroup.affinity.gradients import (
    Accumulator,
    ProjectedGradients,
    combine,
    cosines,
    gramian,
    look_ahead,
    project_gradients,
    relative,
    task_gradients,
)
from taskgroup.errors import GroupingError


class Quadratics:
    """Losses L_t = (theta - c_t)' A_t (theta - c_t) / 2 + 1: gradients and look-ahead are known exactly."""

    def __init__(self, tasks: int = 3, size: int = 4) -> None:
        generator = torch.Generator().manual_seed(0)
        roots = torch.randn(tasks, size, size, generator=generator, dtype=torch.float64)
        self.curvature = roots @ roots.mT
        self.centre = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
        self.theta = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()

    def losses(self, theta: torch.Tensor) -> torch.Tensor:
        away = theta - self.centre
        return 0.5 * torch.einsum("ti,tij,tj->t", away, self.curvature, away) + 1

    def gradients(self) -> torch.Tensor:
        return torch.einsum("tij,tj->ti", self.curvature, self.theta.detach() - self.centre)


class VolumeNetwork(nn.Module):
    """A backbone with BatchNorm3d and circular convolutions, and a linear head."""

    def __init__(self, tasks: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1, padding_mode="circular"),
            nn.BatchNorm3d(4),
            nn.SiLU(),
            nn.Conv3d(4, 6, 3, padding=1),
            nn.BatchNorm3d(6),
            nn.SiLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(6, tasks)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(fields))


@pytest.fixture
def volumes() -> tuple[VolumeNetwork, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return VolumeNetwork().double(), torch.randn(5, 1, 4, 4, 4).double(), torch.randn(5, 3).double()


class TestGramian:
    def test_quadratic_losses_give_the_known_gradients_inner_products_and_cosines(self):
        problem = Quadratics()
        expected = problem.gradients()
        losses = problem.losses(problem.theta)
        torch.testing.assert_close(task_gradients(losses, [problem.theta]), expected)
        gram = gramian(losses, [problem.theta])
        torch.testing.assert_close(gram, expected @ expected.T)
        unit = expected / expected.norm(dim=1, keepdim=True)
        torch.testing.assert_close(cosines(gram), unit @ unit.T)

    def test_it_equals_finite_differences_through_batch_normalisation(self, volumes):
        network, fields, labels = volumes
        shared = list(network.backbone.parameters())

        def losses() -> torch.Tensor:
            return ((network(fields) - labels) ** 2).mean(0)

        analytic = task_gradients(losses(), shared)
        numeric = torch.zeros_like(analytic)
        with torch.no_grad():
            position = 0
            for parameter in shared:
                flat = parameter.view(-1)
                for i in range(len(flat)):
                    flat[i] += 1e-5
                    above = losses()
                    flat[i] -= 2e-5
                    numeric[:, position] = (above - losses()) / 2e-5
                    flat[i] += 1e-5
                    position += 1
        torch.testing.assert_close(analytic, numeric, atol=1e-7, rtol=1e-5)

    def test_it_equals_torchjd_autogram_with_batch_normalisation(self, volumes):
        from torchjd.autogram import Engine

        network, fields, labels = volumes
        shared = list(network.backbone.parameters())
        ours = gramian(((network(fields) - labels) ** 2).mean(0), shared)
        engine = Engine(network.backbone, batch_dim=None)
        theirs = engine.compute_gramian(((network(fields) - labels) ** 2).mean(0))
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-12)

    def test_a_task_without_a_gradient_has_no_cosine(self):
        theta = torch.ones(3, requires_grad=True)
        losses = torch.stack([theta.sum(), 0 * theta.sum(), torch.tensor(4.0), (theta**2).sum()])
        found = cosines(gramian(losses, [theta]))
        assert found.isfinite().tolist() == [
            [True, False, False, True],
            [False] * 4,
            [False] * 4,
            [True, False, False, True],
        ]
        assert found[0, 3] == pytest.approx(1.0)

    def test_the_graph_is_kept_and_no_grad_is_filled(self, volumes):
        network, fields, labels = volumes
        losses = ((network(fields) - labels) ** 2).mean(0)
        gramian(losses, list(network.backbone.parameters()))
        assert all(parameter.grad is None for parameter in network.parameters())
        losses.sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


class TestLookAhead:
    @pytest.mark.parametrize("step", [1e-3, 0.1])
    def test_quadratic_losses_give_the_known_answer_to_second_order(self, step):
        problem = Quadratics()
        g, losses = problem.gradients(), problem.losses(problem.theta)
        bend = torch.einsum("ip,jpq,iq->ij", g, problem.curvature, g)
        expected = (step * g @ g.T - 0.5 * step**2 * bend) / losses.detach()
        found = look_ahead(losses, g, [problem.theta], lambda moved: problem.losses(moved[0]), step)
        torch.testing.assert_close(found, expected)

    def test_a_small_step_is_the_gramian_over_the_loss(self, volumes):
        network, fields, labels = volumes
        shared = dict(network.backbone.named_parameters())

        def losses_at(moved: list[torch.Tensor]) -> torch.Tensor:
            features = torch.func.functional_call(
                network.backbone, dict(zip(shared, moved, strict=True)), fields
            )
            return ((network.head(features) - labels) ** 2).mean(0)

        parameters = list(shared.values())
        losses = losses_at(parameters)
        gradients = task_gradients(losses, parameters)
        found = look_ahead(losses, gradients, parameters, losses_at, 1e-6)
        torch.testing.assert_close(
            found / 1e-6, gradients @ gradients.T / losses.detach(), rtol=1e-3, atol=1e-5
        )

    def test_a_task_missing_from_the_batch_helps_nobody_and_is_helped_by_nobody(self):
        theta = torch.ones(2, requires_grad=True)

        def losses_at(moved: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([(moved[0] ** 2).sum(), 0 * moved[0].sum()])

        losses = losses_at([theta])
        found = look_ahead(losses, task_gradients(losses, [theta]), [theta], losses_at, 0.1)
        assert found.isnan().tolist() == [[False, True], [True, True]]
        assert found[0, 0] == pytest.approx(1 - 0.8**2)

    def test_the_parameters_stay_where_they_are(self):
        problem = Quadratics()
        before = problem.theta.detach().clone()
        look_ahead(
            problem.losses(problem.theta),
            problem.gradients(),
            [problem.theta],
            lambda m: problem.losses(m[0]),
            0.5,
        )
        assert torch.equal(problem.theta.detach(), before)


class TestAccumulator:
    def test_the_mean_is_over_probes_and_the_spread_between_checkpoints(self):
        probes = np.random.default_rng(0).normal(size=(3, 4, 2, 2))
        accumulator = Accumulator(["a", "b"])
        for stretch in probes:
            for probe in stretch:
                accumulator.add(torch.tensor(probe))
            accumulator.checkpoint()
        found = accumulator.affinity("cosine")
        np.testing.assert_allclose(found.values, probes.mean(axis=(0, 1)))
        np.testing.assert_allclose(found.spread, probes.mean(axis=1).std(axis=0, ddof=1))
        assert found.measure == "cosine"

    def test_missing_entries_are_left_out(self):
        accumulator = Accumulator(["a", "b"])
        accumulator.add(torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]]))
        accumulator.checkpoint()
        accumulator.add(torch.tensor([[3.0, 5.0], [torch.nan, torch.nan]]))
        found = accumulator.affinity("cosine")
        np.testing.assert_array_equal(found.values, [[2, 5], [np.nan, np.nan]])
        np.testing.assert_array_equal(found.spread, [[np.sqrt(2), np.nan], [np.nan, np.nan]])

    def test_a_run_without_a_probe_says_so(self):
        with pytest.raises(GroupingError, match="before the first"):
            Accumulator(["a"]).affinity("tag")


class TestCombine:
    def test_seeds_give_mean_spread_and_the_p_value_of_a_t_test(self):
        from scipy.stats import ttest_1samp

        seeds = np.random.default_rng(0).normal(0.5, 1, size=(5, 3, 3))
        found = combine([Affinity(("a", "b", "c"), values, measure="tag") for values in seeds])
        np.testing.assert_allclose(found.values, seeds.mean(axis=0))
        np.testing.assert_allclose(found.spread, seeds.std(axis=0, ddof=1))
        np.testing.assert_allclose(found.p, ttest_1samp(seeds, 0).pvalue)

    def test_other_names_or_measures_are_refused(self):
        first = Affinity(("a",), [[1]], measure="tag")
        with pytest.raises(GroupingError, match="share names and measure"):
            combine([first, Affinity(("a",), [[1]], measure="cosine")])


def test_relative_look_ahead_is_one_where_a_helper_is_as_good_as_the_targets_own_step():
    values = np.array([[0.02, 0.03, 0.1], [0.01, 0.03, 0.1], [-0.04, 0.0, -0.1]])
    found = relative(Affinity(("a", "b", "c"), values, measure="tag", spread=values))
    np.testing.assert_allclose(found.values, [[1, 1, np.nan], [0.5, 1, np.nan], [-2, 0, np.nan]])
    np.testing.assert_allclose(found.spread, found.values)
    assert found.measure == "relative tag"


DIM = 20  # enough for 30 labels of their own to be too few


def linear_problem(kinds: tuple[str, ...] = ("regression",) * 3) -> ProjectedGradients:
    """Linear models through one shared weight: targets 0 and 1 want the same weights, target 2 the opposite."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, DIM))
    truth = x @ rng.normal(size=DIM) / 3
    labels = np.column_stack([truth, truth, -truth]) + rng.normal(size=(1500, 3))
    labels[rng.random(labels.shape) < 0.2] = np.nan
    labels[:, 0][rng.random(1500) < 0.9] = np.nan
    for t, kind in enumerate(kinds):
        if kind == "classification":
            labels[:, t] = np.where(np.isnan(labels[:, t]), np.nan, labels[:, t] > 0)
    gradients = np.repeat(x[:, None], 3, axis=1)
    return ProjectedGradients(
        ("a", "b", "c"), kinds, np.zeros((1500, 3)), gradients, labels, np.arange(1500) < 300
    )


class TestProjectedGradients:
    def test_a_linear_model_is_estimated_exactly_as_ridge_regression_trains_it(self):
        from sklearn.linear_model import Ridge

        problem = linear_problem()
        rows, weights, targets, curvature = [], [], [], 0.0
        for t in (0, 1):
            kept = problem.train & ~np.isnan(problem.labels[:, t])
            rows.append(problem.gradients[kept, t])
            targets.append(problem.labels[kept, t])
            weights.append(np.full(kept.sum(), 1 / kept.sum()))
            curvature += np.trace(rows[-1].T @ rows[-1]) / kept.sum()
        model = Ridge(alpha=problem.ridge * curvature / DIM, fit_intercept=False)
        model.fit(np.concatenate(rows), np.concatenate(targets), np.concatenate(weights))
        np.testing.assert_allclose(
            problem.predict(["a", "b"])[:, 0], model.predict(problem.gradients[:, 0]), atol=1e-9
        )

    def test_classes_are_estimated_as_logistic_regression_trains_them(self):
        from sklearn.linear_model import LogisticRegression

        problem = linear_problem(("classification",) * 3)
        kept = problem.train & ~np.isnan(problem.labels[:, 1])
        g, y = problem.gradients[kept, 1], problem.labels[kept, 1]
        penalty = (
            problem.ridge * np.trace(g.T @ g) / kept.sum() / 4 / DIM
        )  # curvature at probability 1/2
        model = LogisticRegression(
            C=1 / (penalty * kept.sum()), fit_intercept=False, tol=1e-10
        ).fit(g, y)
        expected = model.decision_function(problem.gradients[:, 1])
        np.testing.assert_allclose(problem.predict(["b"])[:, 1], expected, atol=1e-4)

    @pytest.mark.parametrize("kind", ["regression", "classification"])
    def test_a_sparse_target_gains_from_its_twin_and_loses_from_its_opposite(self, kind):
        affinity = linear_problem((kind,) * 3).affinity()
        assert affinity.value("b", "a") > 0
        assert affinity.value("c", "a") < affinity.value("b", "a")
        assert affinity.value("c", "b") < 0
        np.testing.assert_array_equal(np.diag(affinity.values), 0)

    def test_estimates_name_the_targets_and_do_not_depend_on_their_order(self):
        problem = linear_problem()
        first, second = problem.estimate(["a", "c"]), problem.estimate(["c", "a"])
        assert first.keys() == {"a", "c"}
        assert first == pytest.approx(second)

    def test_bad_subsets_are_named(self):
        with pytest.raises(GroupingError, match="at least one"):
            linear_problem().estimate([])
        with pytest.raises(GroupingError, match="unknown target 'd'"):
            linear_problem().estimate(["d"])


class TestProjection:
    def test_enough_dimensions_give_the_gradients_themselves(self):
        torch.manual_seed(0)
        inputs, weight = torch.randn(7, 5).double(), torch.randn(5, 2).double().requires_grad_()
        outputs, gradients = project_gradients(
            lambda row: inputs[row] @ weight, 7, [weight], dim=100
        )
        np.testing.assert_allclose(outputs, (inputs @ weight).detach())
        expected = torch.einsum("rp,tq->rtpq", inputs, torch.eye(2).double()).reshape(7, 2, 10)
        np.testing.assert_allclose(gradients, expected)

    def test_inner_products_are_kept_on_average_with_the_promised_error(self):
        torch.manual_seed(0)
        inputs = torch.randn(2, 3000)
        weight = torch.zeros(3000, requires_grad=True)
        exact = float(inputs[0] @ inputs[1])
        found = []
        for seed in range(200):
            _, g = project_gradients(
                lambda row: (inputs[row] * weight).sum()[None], 2, [weight], dim=64, seed=seed
            )
            found.append(g[0, 0] @ g[1, 0])
        scale = float(inputs[0].norm() * inputs[1].norm()) / 8
        assert abs(np.mean(found) - exact) < 4 * scale / np.sqrt(200)
        assert np.std(found) < 1.3 * scale
