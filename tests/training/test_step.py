"""One step of training: what it computes, what it asks of the device, and which steps may be recorded."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from taskgroup.training import Hook
from taskgroup.training.loop import TrainingLoop

from .conftest import make_job

CPU = torch.device("cpu")


def _loop(dataset, split, targets=("charge", "edge", "heavy"), hooks=(), dropout=None, **training):
    job = make_job(dataset, targets, **training)
    if dropout is not None:
        model = job.model.model_copy(update={"dropout": dropout})
        job = type(job).from_dict(job.to_dict() | {"model": model.model_dump(mode="json")})
    return TrainingLoop(dataset, split, job, CPU, hooks)


def test_a_step_is_a_step_of_adamw_on_the_mean_loss(dataset, split):
    loop = _loop(dataset, split, augment=False, dropout=0, grad_clip=0, weight_decay=0)
    reference = copy.deepcopy(loop.network).train()
    batch = loop.batches.draw(first_step=0)[0]
    rows, lattice = loop.data.batch(batch.rows)
    losses = loop.step.target_losses(
        reference(rows, lattice), loop.labels.values[batch.rows], loop.labels.present[batch.rows]
    )
    losses.mean().backward()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=batch.rates[0], weight_decay=0)
    optimizer.step()

    loop.step.begin_epoch()
    loop.step(batch)
    assert loop.step.end_epoch().item() == pytest.approx(losses.mean().item(), rel=1e-6)
    assert loop.context.step == 1
    expected = dict(reference.named_parameters())
    for name, parameter in loop.network.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_to_its_largest_norm(dataset, split):
    loop = _loop(dataset, split, grad_clip=1e-3)
    loop.step.begin_epoch()
    loop.step(loop.batches.draw(first_step=0)[0])
    norms = [parameter.grad.norm() for parameter in loop.network.parameters()]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_averaged_weights_are_a_network_of_their_own_only_where_they_are_on(dataset, split, ema):
    loop = _loop(dataset, split, ema=ema)
    assert (loop.step.averaged is loop.network) == (ema == 0)
    loop.train()
    averaged = loop.step.averaged.state_dict()
    is_equal = [torch.equal(averaged[name], t) for name, t in loop.network.state_dict().items()]
    assert all(is_equal) == (ema == 0)


class _NothingReadBack(TorchDispatchMode):
    """Fails where the host would wait for a number of the device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        assert "local_scalar" not in name, name
        assert "nonzero" not in name, name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("balance", ["mean", "uncertainty", "dwa"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_step_reads_nothing_back(dataset, split, balance, ema):
    loop = _loop(dataset, split, balance=balance, ema=ema)
    loop.step.begin_epoch()
    for batch in loop.batches.draw(first_step=0):
        with _NothingReadBack():
            loop.step(batch)


def test_rates_may_lie_on_the_device_as_they_do_on_a_gpu(dataset, split):
    on_host, on_device = (_loop(dataset, split, ema=0.9) for _ in range(2))
    for loop in (on_host, on_device):
        loop.step.begin_epoch()
        for batch in loop.batches.draw(first_step=0):
            if loop is on_device:
                batch = replace(batch, rates=torch.tensor(batch.rates))
            with loop.isolation.active(), _NothingReadBack():
                loop.step(batch)
    expected = on_host.step.averaged.state_dict()
    for name, tensor in on_device.step.averaged.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_the_check_for_reading_back_would_notice_it():
    with pytest.raises(AssertionError, match="local_scalar"), _NothingReadBack():
        torch.ones(3).sum().item()


class _EveryThird(Hook):
    def __init__(self):
        self.steps = []

    def looks_at(self, step):
        return step % 3 == 0

    def on_step(self, context):
        self.steps.append(context.step)


def _recorded_steps(loop, monkeypatch):
    """Steps of an epoch that a GPU would take from a recording."""
    recorded = []

    def replay(*inputs):
        recorded.append(loop.context.step)
        return loop.step._step(*inputs)

    monkeypatch.setattr(loop.step, "_recorded_step", replay)
    loop.train()
    return recorded


def test_steps_that_a_hook_looks_at_are_not_recorded(dataset, split, monkeypatch):
    hook = _EveryThird()
    loop = _loop(dataset, split, hooks=[hook], batch_size=4)
    recorded = _recorded_steps(loop, monkeypatch)
    assert hook.steps == [0, 3, 6]
    assert recorded == [1, 2, 4, 5, 7]


def test_steps_of_a_balancer_that_leaves_the_device_are_not_recorded(dataset, split, monkeypatch):
    assert _recorded_steps(_loop(dataset, split, balance="pcgrad"), monkeypatch) == []
    assert _recorded_steps(_loop(dataset, split, balance="mean"), monkeypatch) == [0, 1]
    alone = _loop(dataset, split, ("charge",), balance="pcgrad")
    assert _recorded_steps(alone, monkeypatch) == [0, 1]


def test_only_steps_in_which_every_target_has_a_label_are_recorded(dataset, split, monkeypatch):
    loop = _loop(dataset, split, ("charge", "sparse"), batch_size=4)
    present = []
    draw = loop.batches.draw
    monkeypatch.setattr(
        loop.batches, "draw", lambda first_step: present.extend(draw(first_step)) or present
    )
    recorded = _recorded_steps(loop, monkeypatch)
    complete = [step for step, batch in enumerate(present) if batch.present_targets == [0, 1]]
    assert recorded == complete
    assert 0 < len(complete) < len(present)
