"""Balancers: published test vectors, closed forms, and the conformance class over every name."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from taskgroup.errors import ConfigError
from taskgroup.training.balance import (
    BALANCERS,
    Balancer,
    DynamicWeightAverage,
    NonNegativeProjector,
    Uncertainty,
    balancer_names,
    make_balancer,
)
from taskgroup.training.testing import BalancerConformance


@pytest.mark.parametrize("name", list(BALANCERS))
class TestEveryBalancer(BalancerConformance):
    @pytest.fixture(autouse=True)
    def _name(self, name):
        self.name = name

    def make(self, n_targets):
        return make_balancer(self.name, n_targets)


def _shared_gradient(balancer, jacobian):
    """The update of shared weights whose per-target gradients are the rows of a matrix."""
    weight = nn.Parameter(torch.zeros(jacobian.shape[1]))
    features = weight * 1.0
    losses = jacobian @ features
    balancer.backward(losses, features, [weight], range(len(jacobian)))
    return weight.grad


# J = [[-4, 1, 1], [6, 1, 1]]; aggregators' values as published by torchjd, times T / T or 1 / T for our common scale
_VECTORS = {
    "mean": [1, 1, 1],
    "mgda": [0, 1, 1],
    "pcgrad": [0.584795 / 2, 3.80117 / 2, 3.80117 / 2],
    "imtlg": [0.076697, 1, 1],
    "aligned_mtl": [0.213279, 0.967333, 0.967333],
    "upgrad": [0.2929, 1.9004, 1.9004],
}


@pytest.mark.parametrize("name", list(_VECTORS))
def test_the_update_on_the_published_matrix(name):
    jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    found = _shared_gradient(make_balancer(name, 2), jacobian)
    torch.testing.assert_close(
        found, torch.tensor(_VECTORS[name], dtype=torch.float32), atol=2e-4, rtol=2e-4
    )


@pytest.mark.parametrize("name", ["pcgrad", "upgrad"])
def test_without_conflict_projecting_methods_equal_the_mean(name):
    jacobian = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0]])
    expected = _shared_gradient(make_balancer("mean", 3), jacobian)
    torch.testing.assert_close(
        _shared_gradient(make_balancer(name, 3), jacobian), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["upgrad", "mgda"])
def test_the_update_descends_every_loss(name):
    torch.manual_seed(0)
    for _ in range(10):
        jacobian = torch.randn(3, 6)
        assert (jacobian @ _shared_gradient(make_balancer(name, 3), jacobian)).min() > -1e-3


def test_heads_get_the_gradients_of_the_mean_loss_whatever_the_method():
    gradients = {
        name: _gradients(name)["heads.weight"] for name in ("mean", "pcgrad", "upgrad", "mgda")
    }
    for gradient in gradients.values():
        torch.testing.assert_close(gradient, gradients["mean"])


def _gradients(name):
    return BalancerConformance().gradients(make_balancer(name, 3), range(3))


def test_the_projector_solves_the_quadratic_programme():
    random = np.random.default_rng(0)
    for _ in range(5):
        jacobian = random.normal(size=(4, 9))
        gramian = jacobian @ jacobian.T
        u = random.random(4)
        best = minimize(
            lambda w, g=gramian: w @ g @ w, u + 1, bounds=[(low, None) for low in u], tol=1e-12
        ).x
        found = NonNegativeProjector()(torch.tensor(u)[None], torch.tensor(gramian))[0].numpy()
        assert (found >= u - 1e-9).all()
        assert found @ gramian @ found == pytest.approx(best @ gramian @ best, rel=1e-3)


def test_the_projector_leaves_weights_alone_where_all_gradients_are_zero():
    weights = torch.full((2, 2), 0.5)
    assert torch.equal(NonNegativeProjector()(weights, torch.zeros(2, 2)), weights)


def test_uncertainty_settles_where_the_log_variance_is_the_log_of_the_loss():
    balancer = Uncertainty(2)
    optimiser = torch.optim.Adam(balancer.parameters(), lr=0.05)
    for _ in range(500):
        optimiser.zero_grad()
        balancer.combine(torch.tensor([0.5, 4.0]), [0, 1]).backward()
        optimiser.step()
    torch.testing.assert_close(
        balancer.log_variance.exp(), torch.tensor([0.5, 4.0]), rtol=1e-3, atol=0
    )


def test_uncertainty_does_not_learn_from_a_target_without_labels():
    balancer = Uncertainty(3)
    balancer.combine(torch.tensor([1.0, 0.0, 2.0]), [0, 2]).backward()
    assert balancer.log_variance.grad[1] == 0


def test_dynamic_weights_follow_the_ratio_of_the_last_two_epochs():
    balancer = DynamicWeightAverage(2)
    for losses in ([4.0, 1.0], [2.0, 1.0]):
        for _ in range(3):
            balancer.combine(torch.tensor(losses), [0, 1])
        balancer.end_epoch()
    torch.testing.assert_close(balancer.weights, 2 * torch.softmax(torch.tensor([0.5, 1.0]) / 2, 0))


def test_dynamic_weights_average_over_the_batches_that_had_labels():
    balancer = DynamicWeightAverage(2)
    for _ in range(2):
        balancer.combine(torch.tensor([4.0, 3.0]), [0, 1])
        balancer.combine(torch.tensor([4.0, 0.0]), [0])
        balancer.end_epoch()
    torch.testing.assert_close(balancer.weights, torch.ones(2))


def test_dynamic_weights_stay_finite_when_a_target_has_no_label_in_an_epoch():
    balancer = DynamicWeightAverage(2)
    for present in ([0, 1], [0], [0, 1]):
        balancer.combine(torch.tensor([1.0, float(1 in present)]), present)
        balancer.end_epoch()
    assert torch.isfinite(balancer.weights).all()


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'pcgrad'"):
        make_balancer("pcgra", 2)


def test_a_plug_in_is_found_by_its_entry_point(monkeypatch, tmp_path):
    folder = tmp_path / "mine-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[taskgroup.balancers]\nhardest = mine_balancer:Hardest\n"
    )
    (tmp_path / "mine_balancer.py").write_text(
        "from taskgroup.training.balance import Balancer\n"
        "class Hardest(Balancer):\n"
        "    def combine(self, losses, present):\n"
        "        return losses.max()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    vars(BALANCERS).pop("_plugins", None)  # read once per process
    try:
        assert "hardest" in balancer_names()
        balancer = make_balancer("hardest", 2)
        assert isinstance(balancer, Balancer)
        assert balancer.combine(torch.tensor([1.0, 3.0]), [0, 1]) == 3
    finally:
        vars(BALANCERS).pop("_plugins", None)
