"""Affinities seen from the gradients of one joint run; nothing here knows of a training loop.

- `gramian` and `cosines`: do the tasks pull the shared parameters the same way?
- `look_ahead`: what does a step on one task do to the loss of another (TAG)?
- `ProjectedGradients`: what would any subset of the tasks have given (Grad-TAG)?
- `JOINT_AFFINITIES` names them, as search spaces, stored affinities and reports do.
- `Accumulator` averages many probes of a run, `combine` several seeds, `relative` puts look-ahead on a common scale.

    >>> import torch
    >>> w = torch.tensor([1.0, 0.0], requires_grad=True)
    >>> losses = torch.stack([(w**2).sum(), -w.sum()])
    >>> cosines(gramian(losses, [w])).round(decimals=3).tolist()
    [[1.0, -0.7070000171661377], [-0.7070000171661377, 1.0]]
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from taskgroup.affinity._accumulate import Accumulator, combine, relative
from taskgroup.affinity._joint_affinity import JOINT_AFFINITIES, JointAffinity
from taskgroup.affinity._projected import ProjectedGradients, project_gradients
from taskgroup.affinity._task_gradients import task_gradients

__all__ = [
    "JOINT_AFFINITIES",
    "Accumulator",
    "JointAffinity",
    "ProjectedGradients",
    "combine",
    "cosines",
    "gramian",
    "look_ahead",
    "project_gradients",
    "relative",
    "task_gradients",
]


def gramian(losses: Tensor, shared: Sequence[Tensor]) -> Tensor:
    """Inner products ``[T, T]`` of the task gradients on the shared parameters; ``losses`` [T] keeps its graph."""
    gradients = task_gradients(losses, shared)
    products = gradients @ gradients.T
    return (products + products.T) / 2  # some processors round (i, j) and (j, i) differently


def cosines(gram: Tensor) -> Tensor:
    """Cosines ``[T, T]`` of a Gramian; NaN in the rows and columns of a task without a gradient."""
    norms = gram.diagonal().clamp(min=0).sqrt()
    scale = norms[:, None] * norms
    return torch.where(scale > 0, gram / scale, torch.nan).clamp(-1, 1)


@torch.no_grad()
def look_ahead(
    losses: Tensor,
    gradients: Tensor,
    shared: Sequence[Tensor],
    losses_at: Callable[[list[Tensor]], Tensor],
    step: float,
) -> Tensor:
    r"""Inter-task affinity ``[T, T]``: the relative fall of loss j after a gradient step on task i alone.

    .. math:: Z_{i \to j} = 1 - \frac{L_j(\theta - \eta\, \nabla L_i)}{L_j(\theta)}

    Fifty et al., 2021, arXiv:2109.04617. To first order it is :math:`\eta\, g_i \cdot g_j / L_j`. Rows of tasks without
    a gradient and columns of tasks without a loss are NaN.

    Args:
        losses: ``[T]`` at the present parameters.
        gradients: ``[T, P]`` of `task_gradients`.
        shared: the present shared parameters; they are not changed.
        losses_at: replacements of ``shared``, in order -> losses ``[T]`` of the same batch.
        step: learning rate of the step.
    """
    sizes = [p.numel() for p in shared]
    rows = []
    for gradient in gradients:
        parts = gradient.split(sizes)
        moved = [p - step * part.view_as(p) for p, part in zip(shared, parts, strict=True)]
        rows.append(torch.where(gradient.any(), 1 - losses_at(moved) / losses, torch.nan))
    return torch.where(losses > 0, torch.stack(rows), torch.nan)
