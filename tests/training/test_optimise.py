"""Schedule, averaged weights, layouts."""

import copy
import math

import pytest
import torch
from torch import nn

from taskgroup.datasets import TargetScaler
from taskgroup.models import CrystalBatch, MultiTaskNetwork
from taskgroup.training import TrainConfig
from taskgroup.training.optimise import (
    average_rate,
    bfloat16_wanted,
    learning_rate,
    make_optimizer,
    match_layouts,
    move_average,
    use_bfloat16,
)

from .conftest import make_job


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
        move_average(average, network, average_rate(0.9, step=10_000))
    expected = 5 - 4 * 0.9**10
    torch.testing.assert_close(average.weight.data, torch.full((2,), expected))
    torch.testing.assert_close(average.running_mean, torch.full((2,), -1 + 0.9**10))


@pytest.mark.parametrize("kind", [float, torch.tensor], ids=["number", "tensor"])
def test_early_averages_forget_fast(kind):
    average, network = nn.Linear(1, 1), nn.Linear(1, 1)
    before = (average.weight - network.weight).item()
    move_average(average, network, kind(average_rate(0.999, step=1)))
    assert (average.weight - network.weight).item() == pytest.approx(before * 2 / 11, rel=1e-4)


def test_precision_is_what_is_asked_for(monkeypatch):
    cpu = torch.device("cpu")
    assert not bfloat16_wanted("float32", cpu)
    assert bfloat16_wanted("bfloat16", cpu)
    for has_it in (True, False):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda amx=has_it: {"amx_bf16": amx}, raising=False
        )
        assert bfloat16_wanted("auto", cpu) is has_it
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not bfloat16_wanted("auto", cpu)


def test_a_copy_of_a_bfloat16_network_computes_with_its_own_weights(dataset):
    job = make_job(dataset)
    table = dataset.targets.select(job.targets)
    scaler = TargetScaler.fit(table.specs, table.values)
    network = MultiTaskNetwork(job.model, table.specs, scaler, 1).eval()
    lattice = torch.tensor(dataset.lattices, dtype=torch.float32)
    rows = network.view.prepare(CrystalBatch(torch.from_numpy(dataset.densities()), lattice))
    exact = network(rows, lattice)
    use_bfloat16(network, True)
    twin = copy.deepcopy(network)
    rounded = network(rows, lattice)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)
    with torch.no_grad():
        for parameter in twin.trunk.backbone.parameters():
            parameter.zero_()
    assert not torch.equal(twin(rows, lattice), rounded)
    assert torch.equal(network(rows, lattice), rounded)
    use_bfloat16(network, False)
    assert torch.equal(network(rows, lattice), exact)


def test_the_share_of_the_warm_up_is_in_steps_rounded_up():
    config = TrainConfig(lr=1.0, warmup=0.1)
    assert learning_rate(config, 0, 15) == pytest.approx(1 / math.ceil(1.5))
