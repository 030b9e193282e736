from collections.abc import Sequence

import torch
from torch import Tensor


def task_gradients(losses: Tensor, shared: Sequence[Tensor]) -> Tensor:
    """Gradients ``[T, P]`` of each of the scalars ``losses`` [T] by all shared parameters; the graph is kept.

    One backward pass a task: ``is_grads_batched`` is no faster on a CPU and keeps all tasks' activations' gradients at
    once; torchjd's autogram engine, with the forward pass it has to hook, took 1.3 to 2 times as long
    (``benchmarks/affinity_cost.py``). A parameter a task does not use has gradient zero.
    """
    rows = []
    for loss in losses:
        if not loss.requires_grad:
            rows.append(losses.new_zeros(sum(p.numel() for p in shared)))
            continue
        parts = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)
