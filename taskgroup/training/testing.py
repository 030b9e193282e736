"""Conformance tests of balancers; third parties subclass BalancerConformance in their tests.

>>> class TestMine(BalancerConformance):
...     def make(self, n_targets):
...         return Mine(n_targets)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taskgroup.training.balance import Balancer

_N_TARGETS = 3
_N_ROWS = 8
_N_INPUTS = 5
_N_FEATURES = 4


class BalancerConformance:
    """Tests of one balancer on a small shared layer with a head for three targets."""

    def make(self, n_targets: int) -> Balancer:
        """Return a new balancer under test."""
        raise NotImplementedError

    def gradients(
        self, balancer: Balancer, present: Sequence[int], scale: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the gradients of a step on a fixed batch in which only ``present`` targets have labels.

        ``scale`` [T] multiplies the losses.
        """
        torch.manual_seed(0)
        network = nn.ModuleDict(
            {
                "shared": nn.Linear(_N_INPUTS, _N_FEATURES),
                "heads": nn.Linear(_N_FEATURES, _N_TARGETS),
            }
        )
        features = torch.tanh(network["shared"](torch.randn(_N_ROWS, _N_INPUTS)))
        squared_errors = (network["heads"](features) - torch.randn(_N_ROWS, _N_TARGETS)) ** 2
        has_label = torch.zeros(_N_TARGETS)
        has_label[list(present)] = 1
        losses = squared_errors.mean(0) * has_label
        if scale is not None:
            losses = losses * scale
        balancer.backward(losses, features, list(network["shared"].parameters()), present)
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        for name, gradient in self.gradients(self.make(_N_TARGETS), range(_N_TARGETS)).items():
            assert gradient is not None, name
            assert torch.isfinite(gradient).all(), name
            assert gradient.abs().max() > 0, name

    def test_a_target_without_labels_in_the_batch_gets_no_gradient(self) -> None:
        gradients = self.gradients(self.make(_N_TARGETS), [0, 2])
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
        assert gradients["heads.weight"][1].abs().max() == 0
        assert gradients["heads.weight"][0].abs().max() > 0

    def test_one_target_with_labels_in_the_batch_is_enough(self) -> None:
        gradients = self.gradients(self.make(_N_TARGETS), [1])
        assert torch.isfinite(gradients["shared.weight"]).all()
        assert gradients["shared.weight"].abs().max() > 0

    def test_equal_random_states_give_equal_gradients(self) -> None:
        first = self.gradients(self.make(_N_TARGETS), range(_N_TARGETS))
        second = self.gradients(self.make(_N_TARGETS), range(_N_TARGETS))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_losses_of_very_different_sizes_give_finite_gradients(self) -> None:
        scale = torch.tensor([1e-6, 1.0, 1e6])
        gradients = self.gradients(self.make(_N_TARGETS), range(_N_TARGETS), scale)
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())

    def test_the_state_of_a_balancer_can_be_restored(self) -> None:
        trained = self.make(_N_TARGETS)
        for _ in range(3):
            self.gradients(trained, range(_N_TARGETS))
            trained.end_epoch()
        restored = self.make(_N_TARGETS)
        restored.load_state_dict(trained.state_dict())
        expected = self.gradients(trained, [0, 1])
        found = self.gradients(restored, [0, 1])
        assert all(torch.equal(found[name], expected[name]) for name in expected)
