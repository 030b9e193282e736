"""Optimiser, learning rate, averaged weights (EMA) and precision of a training."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn, optim

from taskgroup.models import MultiTaskNetwork
from taskgroup.training.config import TrainConfig


def make_optimizer(
    network: nn.Module, balancer: nn.Module | None, config: TrainConfig
) -> optim.Optimizer:
    """Return AdamW in one fused kernel, which a GPU can record.

    Weights of two or more dimensions decay; biases, norms and a balancer's parameters do not.
    """
    parameters = list(network.parameters())
    decaying = [parameter for parameter in parameters if parameter.ndim > 1]
    constant = [parameter for parameter in parameters if parameter.ndim <= 1]
    if balancer is not None:
        constant.extend(balancer.parameters())
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": constant, "weight_decay": 0.0},
    ]
    device = parameters[0].device
    on_gpu = device.type == "cuda"
    # A recorded step reads its rate from the device.
    rate = torch.tensor(config.lr, device=device) if on_gpu else config.lr
    not_empty = [group for group in groups if group["params"]]
    return optim.AdamW(not_empty, lr=rate, fused=True, capturable=on_gpu)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of a step (from 0) of ``steps``: a linear warm-up, then a cosine towards zero."""
    warmup_steps = math.ceil(config.warmup * steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    remaining_steps = max(1, steps - warmup_steps)
    progress = math.pi * (step - warmup_steps) / remaining_steps
    return config.lr * 0.5 * (1 + math.cos(progress))


def average_rate(decay: float, step: int) -> float:
    """Return how far averaged weights move towards the network's after so many steps; early steps forget faster."""
    return 1 - min(decay, (1 + step) / (10 + step))


def move_average(average: nn.Module, network: nn.Module, rate: float | Tensor) -> None:
    """Move averaged weights (and running statistics) towards the network's; a rate on the device is not waited for.

    The private kernels move all tensors at once. ``torch.optim.swa_utils.get_ema_multi_avg_fn`` uses the first of them
    too, but for a fixed decay that the host knows: here the rate changes from step to step, and a recorded step reads
    it from the device.
    """
    averages = list(_float_tensors(average))
    weights = list(_float_tensors(network))
    if isinstance(rate, float):
        torch._foreach_lerp_(averages, weights, rate)
        return
    differences = torch._foreach_sub(weights, averages)
    torch._foreach_mul_(differences, rate)
    torch._foreach_add_(averages, differences)


def match_layouts(parameters: Iterable[nn.Parameter]) -> None:
    """Give gradients the memory layout of their parameters.

    Backward passes do so by themselves. A balancer may set contiguous gradients on channels-last weights, and fused
    AdamW on CPUs then pairs up wrong elements without a word (torch 2.13).
    """
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)


def _float_tensors(network: nn.Module) -> Iterator[Tensor]:
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            yield tensor.detach()


def use_bfloat16(network: MultiTaskNetwork, on: bool) -> None:
    """Let the backbone of a network compute in bfloat16, if it is made for that, or in float32 again.

    What is around it (cell lengths, statistics, outputs) needs the digits of float32 and costs next to nothing.
    """
    network.trunk.bfloat16 = on and network.trunk.backbone.autocast


def bfloat16_wanted(precision: str, device: torch.device) -> bool:
    """Return whether a TrainConfig's precision means bfloat16 on a device.

    ``auto`` does on GPUs since Ampere and on CPUs with AMX: there a convolution takes a half to a third
    of its time in float32.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Older versions of torch cannot say what a CPU has.
    get_capabilities = getattr(torch.cpu, "get_capabilities", dict)
    return bool(get_capabilities().get("amx_bf16"))
