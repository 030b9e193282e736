"""Schedule, averaged weights, layouts."""

import math

import pytest
import torch
from torch import nn

from taskgroup.training import TrainConfig
from taskgroup.training.optimise import autocast_dtype, learning_rate, make_optimizer, match_layouts, move_average


def test_the_rate_rises_to_its_height_and_falls_to_nearly_zero():
    config = TrainConfig(lr=0.1, warmup=0.2)
    rates = [learning_rate(config, step, 50) for step in range(50)]
    assert rates[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert max(rates) == rates[9] == rates[10] == 0.1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[30] == pytest.approx(0.05)
    assert 0 < rates[-1] < 0.001


def test_without_warm_up_the_first_rate_is_the_highest():
    config = TrainConfig(lr=0.1, warmup=0)
    assert learning_rate(config, 0, 1) == 0.1
    assert learning_rate(config, 5, 10) == pytest.approx(0.05)


def test_one_fused_step_is_the_adamw_of_its_paper_with_decay_on_matrices_only():
    network = nn.Linear(2, 1)
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = make_optimizer(network, None, TrainConfig(lr=0.1, weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    weight, bias = (p.detach() for p in network.parameters())
    torch.testing.assert_close(weight, before[0] * (1 - 0.1 * 0.5) - 0.1)
    torch.testing.assert_close(bias, before[1] - 0.1)


def test_gradients_of_another_layout_update_the_right_elements():
    torch.manual_seed(0)
    start, gradient = torch.randn(4, 3, 3, 3, 3), torch.randn(4, 3, 3, 3, 3)
    layers = [nn.Conv3d(3, 4, 3, bias=False) for _ in range(2)]
    for layer in layers:
        layer.weight.data.copy_(start)
    layers[1].to(memory_format=torch.channels_last_3d)
    for layer in layers:
        optimizer = make_optimizer(layer, None, TrainConfig())
        for factor in (1, -2):
            layer.weight.grad = gradient * factor
            match_layouts(layer.parameters())
            optimizer.step()
    torch.testing.assert_close(layers[1].weight, layers[0].weight)


def test_averages_approach_the_weights_geometrically_once_warm():
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    network.weight.data.fill_(5.0)
    network.running_mean.fill_(-1.0)
    for _ in range(10):
        move_average(average, network, 0.9, step=10_000)
    expected = 5 - 4 * 0.9**10
    torch.testing.assert_close(average.weight.data, torch.full((2,), expected))
    torch.testing.assert_close(average.running_mean, torch.full((2,), -1 + 0.9**10))


def test_early_averages_forget_fast():
    average, network = nn.Linear(1, 1), nn.Linear(1, 1)
    before = (average.weight - network.weight).item()
    move_average(average, network, 0.999, step=1)
    assert (average.weight - network.weight).item() == pytest.approx(before * 2 / 11, rel=1e-4)


def test_precision_is_what_is_asked_for(monkeypatch):
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None
    assert autocast_dtype("bfloat16", cpu) is torch.bfloat16
    for has_it, dtype in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda amx=has_it: {"amx_bf16": amx}, raising=False)
        assert autocast_dtype("auto", cpu) is dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert autocast_dtype("auto", cpu) is None


def test_the_share_of_the_warm_up_is_in_steps_rounded_up():
    config = TrainConfig(lr=1.0, warmup=0.1)
    assert learning_rate(config, 0, 15) == pytest.approx(1 / math.ceil(1.5))
