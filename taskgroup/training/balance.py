"""Combining the losses of several targets into one update, by name.

Weighting methods scale the losses; gradient methods (torchjd) combine the targets' gradients on the shared parameters.
A new method is a subclass of Balancer, registered under the entry point group ``taskgroup.balancers`` and checked by
``taskgroup.training.testing.BalancerConformance``.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import entry_points

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import DualConeProjector

from taskgroup.errors import ConfigError, did_you_mean


class Balancer(nn.Module):
    """Turns the losses of a step into gradients.

    A subclass overrides ``combine``, or ``backward`` if it needs more than a weighted sum. Its parameters are trained
    with the network's (without weight decay), its buffers are part of a checkpoint.

    Parameters
    ----------
    n_targets: targets of the group; two at least, since a single target needs no balancing.

    ``stays_on_device`` promises that ``backward``, where all targets have labels, does the same operations at each step
    and never asks the device for a number: a GPU then replays the whole step.
    """

    stays_on_device = False

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets

    def combine(self, losses: Tensor, present: Sequence[int]) -> Tensor:
        """One scalar to differentiate, from losses [T]; ``present`` lists the targets with a label in the batch."""
        raise NotImplementedError

    def backward(
        self,
        losses: Tensor,
        features: Tensor,
        shared: Sequence[nn.Parameter],
        present: Sequence[int],
    ) -> None:
        """Add to ``.grad`` of every parameter.

        ``losses`` [T] and ``features`` [B, F] carry their graph; ``shared`` are the parameters behind the features;
        ``present`` lists the targets with a label in the batch (the other losses are zero).
        """
        self.combine(losses, present).backward()

    def end_epoch(self) -> None:
        """Called after the last step of an epoch."""


class Mean(Balancer):
    """The mean of all losses. A target without a label in the batch counts as zero, so a rare label stays rare.

    Hard to beat when tuned: Kurin et al., NeurIPS 2022, arXiv:2201.04122.
    """

    stays_on_device = True

    def combine(self, losses: Tensor, present: Sequence[int]) -> Tensor:
        return losses.mean()


class Uncertainty(Balancer):
    """Learned weights: the mean of exp(-s)/2 L + s/2 with a trained log-variance s for each target.

    Kendall, Gal and Cipolla, CVPR 2018, DOI 10.1109/CVPR.2018.00781.
    """

    stays_on_device = True

    def __init__(self, n_targets: int) -> None:
        super().__init__(n_targets)
        self.log_variance = nn.Parameter(torch.zeros(n_targets))

    def combine(self, losses: Tensor, present: Sequence[int]) -> Tensor:
        each = 0.5 * (torch.exp(-self.log_variance) * losses + self.log_variance)
        return (
            each if len(present) == self.n_targets else each[list(present)]
        ).sum() / self.n_targets


class DynamicWeightAverage(Balancer):
    """Weights by how slowly a loss falls: softmax over targets of (last epoch's loss / the one before) / temperature.

    Liu, Johns and Davison, CVPR 2019, DOI 10.1109/CVPR.2019.00197. Equal weights in the first two epochs.
    """

    stays_on_device = True

    def __init__(self, n_targets: int, temperature: float = 2.0) -> None:
        super().__init__(n_targets)
        self.temperature = temperature
        self.register_buffer("weights", torch.ones(n_targets))
        self.register_buffer("_sum", torch.zeros(n_targets))
        self.register_buffer("_steps", torch.zeros(n_targets))
        self.register_buffer("_last", torch.full((n_targets,), torch.nan))

    def combine(self, losses: Tensor, present: Sequence[int]) -> Tensor:
        self._sum += losses.detach()
        if len(present) == self.n_targets:
            self._steps += 1
        else:
            self._steps[list(present)] += 1
        return (self.weights * losses).mean()

    def end_epoch(self) -> None:
        mean = self._sum / self._steps
        ratio = torch.nan_to_num(mean / self._last, nan=1.0, posinf=1.0)
        self.weights.copy_(self.n_targets * torch.softmax(ratio / self.temperature, dim=0))
        self._last.copy_(mean)
        self._sum.zero_()
        self._steps.zero_()


class GradientBalancer(Balancer):
    """Combines the targets' gradients on the shared parameters by a torchjd aggregator; heads keep their own gradients.

    Scaled so that gradients without conflict give the same update as Mean: one learning rate suits all methods.

    Parameters
    ----------
    aggregator: makes a torchjd aggregator for a network.
    adds: whether the aggregator adds rows up (PCGrad) rather than averaging them (UPGrad).
    """

    def __init__(
        self, n_targets: int, aggregator: Callable[[], aggregation.Aggregator], adds: bool
    ) -> None:
        super().__init__(n_targets)
        self.aggregator = aggregator()
        self._scale = 1.0 if adds else float(n_targets)

    def backward(
        self,
        losses: Tensor,
        features: Tensor,
        shared: Sequence[nn.Parameter],
        present: Sequence[int],
    ) -> None:
        rows = [row for i, row in enumerate(losses / self.n_targets) if i in present]
        if len(rows) == 1:
            rows[0].backward()
            return
        # The rows share the graph behind them, hence retain_graph. One loss at a time: convolutions under vmap are
        # slower than as many plain backward passes.
        mtl_backward(
            rows, features=features, shared_params=shared, retain_graph=True, parallel_chunk_size=1
        )
        jac_to_grad(shared, self.aggregator)
        if self._scale != 1.0:
            torch._foreach_mul_([parameter.grad for parameter in shared], self._scale)


class NonNegativeProjector(DualConeProjector):
    """The projection UPGrad needs, argmin over w >= u of w' G w, by non-negative least squares instead of a QP package.

    With G = L L' and w = u + v it is min over v >= 0 of |L' v + L' u|. A Gramian of a few targets: done on the CPU.
    """

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        gramian = G.detach().cpu().double().numpy()
        scale = np.trace(gramian)
        if not np.isfinite(scale) or scale <= 0:
            return U
        root = np.linalg.cholesky(gramian / scale + 1e-4 * np.eye(len(gramian))).T
        rows = U.detach().cpu().double().numpy().reshape(-1, len(gramian))
        weights = np.stack([u + nnls(root, -root @ u)[0] for u in rows]).reshape(U.shape)
        return torch.as_tensor(weights, dtype=U.dtype, device=U.device)


def _gradient(
    aggregator: Callable[[], aggregation.Aggregator], adds: bool = False
) -> Callable[[int], Balancer]:
    return partial(GradientBalancer, aggregator=aggregator, adds=adds)


BALANCERS: dict[str, Callable[[int], Balancer]] = {
    "mean": Mean,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "pcgrad": _gradient(aggregation.PCGrad, adds=True),
    "upgrad": _gradient(lambda: aggregation.UPGrad(projector=NonNegativeProjector())),
    "config": _gradient(aggregation.ConFIG, adds=True),
    "mgda": _gradient(aggregation.MGDA),
    "imtlg": _gradient(aggregation.IMTLG),
    "aligned_mtl": _gradient(aggregation.AlignedMTL),
}


@cache
def balancer_names() -> tuple[str, ...]:
    """Names that ``TrainConfig.balance`` may take: ours, then those of plug-ins."""
    return (*BALANCERS, *(point.name for point in entry_points(group="taskgroup.balancers")))


def make_balancer(name: str, n_targets: int) -> Balancer:
    """A balancer by name. Raises ConfigError for an unknown name."""
    if name in BALANCERS:
        return BALANCERS[name](n_targets)
    for point in entry_points(group="taskgroup.balancers", name=name):
        return point.load()(n_targets)
    raise ConfigError(f"balance: no balancer '{name}'; {did_you_mean(name, balancer_names())}")
