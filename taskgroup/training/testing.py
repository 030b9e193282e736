"""What every balancer must do; third parties subclass BalancerConformance in their tests.

>>> class TestMine(BalancerConformance):
...     def make(self, n_targets):
...         return Mine(n_targets)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taskgroup.training.balance import Balancer

_TARGETS, _ROWS, _WIDTH = 3, 8, 5


class BalancerConformance:
    """Tests of one balancer on a small shared layer with a head for three targets."""

    def make(self, n_targets: int) -> Balancer:
        """The balancer under test, new."""
        raise NotImplementedError

    def gradients(
        self, balancer: Balancer, present: Sequence[int], scale: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Gradients of a step on a fixed batch in which only ``present`` targets have labels."""
        torch.manual_seed(0)
        shared, heads = nn.Linear(_WIDTH, 4), nn.Linear(4, _TARGETS)
        features = torch.tanh(shared(torch.randn(_ROWS, _WIDTH)))
        mask = torch.zeros(_TARGETS)
        mask[list(present)] = 1
        losses = ((heads(features) - torch.randn(_ROWS, _TARGETS)) ** 2).mean(0) * mask
        balancer.backward(
            losses if scale is None else losses * scale,
            features,
            list(shared.parameters()),
            present,
        )
        named = {"shared": shared, "heads": heads}
        return {
            f"{name}.{key}": p.grad
            for name, module in named.items()
            for key, p in module.named_parameters()
        }

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        for name, gradient in self.gradients(self.make(_TARGETS), range(_TARGETS)).items():
            assert gradient is not None, name
            assert torch.isfinite(gradient).all(), name
            assert gradient.abs().max() > 0, name

    def test_a_target_without_labels_in_the_batch_gets_no_gradient(self) -> None:
        gradients = self.gradients(self.make(_TARGETS), [0, 2])
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
        assert gradients["heads.weight"][1].abs().max() == 0
        assert gradients["heads.weight"][0].abs().max() > 0

    def test_one_target_with_labels_in_the_batch_is_enough(self) -> None:
        gradients = self.gradients(self.make(_TARGETS), [1])
        assert torch.isfinite(gradients["shared.weight"]).all()
        assert gradients["shared.weight"].abs().max() > 0

    def test_equal_random_states_give_equal_gradients(self) -> None:
        first, second = (self.gradients(self.make(_TARGETS), range(_TARGETS)) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_losses_of_very_different_sizes_give_finite_gradients(self) -> None:
        scale = torch.tensor([1e-6, 1.0, 1e6])
        gradients = self.gradients(self.make(_TARGETS), range(_TARGETS), scale)
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())

    def test_the_state_of_a_balancer_can_be_restored(self) -> None:
        first, second = self.make(_TARGETS), self.make(_TARGETS)
        for _ in range(3):
            self.gradients(first, range(_TARGETS))
            first.end_epoch()
        second.load_state_dict(first.state_dict())
        one, other = (self.gradients(balancer, [0, 1]) for balancer in (first, second))
        assert all(torch.equal(one[name], other[name]) for name in one)
