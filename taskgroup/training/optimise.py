"""The optimiser, its learning rate, the averaged weights and the precision of a run."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn, optim

from taskgroup.models import MultiTaskNetwork
from taskgroup.training.config import TrainConfig


def make_optimizer(
    network: nn.Module, balancer: nn.Module | None, config: TrainConfig
) -> optim.Optimizer:
    """AdamW in one fused kernel; biases, norms and a balancer's parameters do not decay. Can be recorded on a GPU."""
    parameters = list(network.parameters())
    own = list(balancer.parameters()) if balancer is not None else []
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1] + own, "weight_decay": 0.0},
    ]
    on_gpu = parameters[0].is_cuda
    rate = torch.tensor(config.lr, device=parameters[0].device) if on_gpu else config.lr
    return optim.AdamW(
        [group for group in groups if group["params"]], lr=rate, fused=True, capturable=on_gpu
    )


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of a step (from 0) of ``steps``: linear warm-up over the first fraction, then a cosine towards zero."""
    warm = math.ceil(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def average_rate(decay: float, step: int) -> float:
    """How far averaged weights move towards the network's after so many steps; early steps forget faster."""
    return 1 - min(decay, (1 + step) / (10 + step))


def move_average(average: nn.Module, network: nn.Module, rate: float | Tensor) -> None:
    """Move averaged weights (and running statistics) towards the network's; a rate on the device is not waited for."""
    kept, new = list(_floats(average)), list(_floats(network))
    if isinstance(rate, float):
        torch._foreach_lerp_(kept, new, rate)
    else:
        steps = torch._foreach_sub(new, kept)
        torch._foreach_mul_(steps, rate)
        torch._foreach_add_(kept, steps)


def match_layouts(parameters: Iterable[nn.Parameter]) -> None:
    """Give gradients the memory layout of their parameters.

    Backward passes do so by themselves. A balancer may set contiguous gradients on channels-last weights, and fused
    AdamW on CPUs then pairs up wrong elements without a word (torch 2.13).
    """
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)


def _floats(network: nn.Module) -> Iterator[Tensor]:
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            yield tensor.detach()


def use_bfloat16(network: MultiTaskNetwork, on: bool) -> None:
    """Let the backbone of a network compute in bfloat16, if it is made for that, or in float32 again.

    What is around it (cell lengths, statistics, outputs) needs the digits of float32 and costs next to nothing.
    """
    network.trunk.bfloat16 = on and network.trunk.backbone.autocast


def bfloat16_wanted(precision: str, device: torch.device) -> bool:
    """What a TrainConfig's precision means on a device; auto: tensor cores since Ampere, AMX on a CPU.

    Measured on a CPU with AMX: a convolution takes a half to a third, a training step at 16^3 points a fifth less.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in older torch: float32 there
    return bool(capabilities.get("amx_bf16"))
