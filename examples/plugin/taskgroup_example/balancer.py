"""A way to combine the losses of several targets."""

from collections.abc import Sequence

from torch import Tensor

from taskgroup.training import Balancer


class LargestLoss(Balancer):
    """Weighs each target by its share of the summed loss, so that the hardest target counts most."""

    # The weights are computed on the device, so that a GPU may replay the whole step.
    stays_on_device = True

    def combine(self, losses: Tensor, present: Sequence[int]) -> Tensor:
        """Return the weighted sum of losses [T]; the weights carry no gradient."""
        shares = losses.detach() / losses.detach().sum().clamp_min(1e-12)
        return (shares * losses).sum()
