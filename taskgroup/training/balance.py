"""Balancers: how the losses of several targets are combined into one update.

Weighting methods scale the losses; gradient methods (torchjd) combine the targets' gradients on the shared parameters.
A new method is a subclass of Balancer, registered under the entry point group ``taskgroup.balancers`` and checked by
``taskgroup.training.testing.BalancerConformance``.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import DualConeProjector

from taskgroup.errors import ConfigError
from taskgroup.registry import Registry

# Added to a Gramian of trace 1: parallel gradients make it singular, and a Cholesky factor needs it positive definite.
_REGULARISATION = 1e-4


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
        """Return one scalar to differentiate, from losses [T].

        ``present`` lists the targets with a label in the batch.
        """
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
        """Act on the end of an epoch, after its last step; by default do nothing."""


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
        weighted = 0.5 * (torch.exp(-self.log_variance) * losses + self.log_variance)
        # Indexing with a list copies it to the device: only where a target has no label.
        if len(present) < self.n_targets:
            weighted = weighted[list(present)]
        return weighted.sum() / self.n_targets


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
        # NaN: the first epoch, or no label in one of two epochs. Both count as a loss that stands still.
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
    n_targets: targets of the group.
    make_aggregator: makes a torchjd aggregator for a network.
    adds_rows: True for an aggregator that adds rows up (PCGrad), False for one that averages them (UPGrad).
    """

    def __init__(
        self,
        n_targets: int,
        make_aggregator: Callable[[], aggregation.Aggregator],
        adds_rows: bool,
    ) -> None:
        super().__init__(n_targets)
        self.aggregator = make_aggregator()
        self._scale = 1.0 if adds_rows else float(n_targets)

    def backward(
        self,
        losses: Tensor,
        features: Tensor,
        shared: Sequence[nn.Parameter],
        present: Sequence[int],
    ) -> None:
        shares = losses / self.n_targets
        labelled = [share for target, share in enumerate(shares) if target in present]
        if len(labelled) == 1:
            labelled[0].backward()
            return
        # The losses share the graph behind them, hence retain_graph. One loss at a time: convolutions under vmap are
        # slower than as many plain backward passes.
        mtl_backward(
            labelled,
            features=features,
            shared_params=shared,
            retain_graph=True,
            parallel_chunk_size=1,
        )
        jac_to_grad(shared, self.aggregator)
        if self._scale != 1.0:
            # One kernel for all parameters; torch has no public name for it.
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
        regularised = gramian / scale + _REGULARISATION * np.eye(len(gramian))
        root = np.linalg.cholesky(regularised).T
        bounds = U.detach().cpu().double().numpy().reshape(-1, len(gramian))
        weights = []
        for lower_bound in bounds:
            above_bound, _ = nnls(root, -root @ lower_bound)
            weights.append(lower_bound + above_bound)
        stacked = np.stack(weights).reshape(U.shape)
        return torch.as_tensor(stacked, dtype=U.dtype, device=U.device)


def _averaging(make_aggregator: Callable[[], aggregation.Aggregator]) -> Callable[[int], Balancer]:
    return partial(GradientBalancer, make_aggregator=make_aggregator, adds_rows=False)


def _adding(make_aggregator: Callable[[], aggregation.Aggregator]) -> Callable[[int], Balancer]:
    return partial(GradientBalancer, make_aggregator=make_aggregator, adds_rows=True)


def _make_upgrad() -> aggregation.Aggregator:
    return aggregation.UPGrad(projector=NonNegativeProjector())


BALANCERS: Registry[Callable[[int], Balancer]] = Registry(
    "balancer",
    "taskgroup.balancers",
    {
        "mean": Mean,
        "uncertainty": Uncertainty,
        "dwa": DynamicWeightAverage,
        "pcgrad": _adding(aggregation.PCGrad),
        "upgrad": _averaging(_make_upgrad),
        "config": _adding(aggregation.ConFIG),
        "mgda": _averaging(aggregation.MGDA),
        "imtlg": _averaging(aggregation.IMTLG),
        "aligned_mtl": _averaging(aggregation.AlignedMTL),
    },
    ConfigError,
)
"""Makers of balancers by name: called with the number of targets."""


def balancer_names() -> tuple[str, ...]:
    """Return the names that ``TrainConfig.balance`` may take: ours, then those of plug-ins."""
    return tuple(BALANCERS)


def make_balancer(name: str, n_targets: int) -> Balancer:
    """Return a new balancer. Raises ConfigError for an unknown name."""
    return BALANCERS.find(name)(n_targets)
