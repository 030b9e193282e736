"""The loop of a fit: epochs, their end, the best weights, and what is saved between epochs."""

import pytest
import torch

from taskgroup.errors import TrainingFailed
from taskgroup.training import Checkpoint
from taskgroup.training.loop import TrainingLoop

from .conftest import make_job

CPU = torch.device("cpu")


def _loop(dataset, split, **training):
    return TrainingLoop(dataset, split, make_job(dataset, **training), CPU)


def _weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_epochs_are_numbered_and_over_after_the_last(dataset, split):
    loop = _loop(dataset, split, epochs=2)
    assert not loop.is_over
    reports = [loop.epoch(), loop.epoch()]
    assert [report.epoch for report in reports] == [1, 2]
    assert loop.reports == reports
    assert loop.is_over


def test_patience_counts_the_epochs_since_the_best(dataset, split):
    loop = _loop(dataset, split, epochs=100, patience=2)
    loop.epoch()
    loop.validation.best.values[0] = 2.0  # no epoch can be better
    loop.epoch()
    assert not loop.is_over
    loop.epoch()
    assert loop.is_over


def test_the_network_ends_with_the_weights_of_the_best_epoch(dataset, split):
    # So large a rate undoes what was learnt, and an early epoch stays the best.
    loop = _loop(dataset, split, epochs=8, lr=0.2)
    weights_by_epoch = {}
    while not loop.is_over:
        number = loop.epoch().epoch
        weights_by_epoch[number] = _weights(loop.network)
    fit = loop.finish()
    assert fit.result.best_epoch < 8  # else the test says nothing
    assert _equal(weights_by_epoch[fit.result.best_epoch], fit.network.state_dict())
    assert not fit.network.training


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_loop_begins_with_the_given_trunk(dataset, split, ema):
    trunk = _weights(_loop(dataset, split, seed=1).network.trunk)
    loop = _loop(dataset, split, ema=ema)
    heads = _weights(loop.network.heads)
    loop.begin_with(trunk)
    for network in (loop.network, loop.step.averaged):
        assert _equal(trunk, network.trunk.state_dict())
        assert _equal(heads, network.heads.state_dict())


@pytest.mark.parametrize("settings", [{}, {"ema": 0.8, "balance": "dwa"}], ids=str)
def test_a_restored_loop_goes_on_as_the_saved_one(dataset, split, tmp_path, settings):
    checkpoint = Checkpoint(tmp_path / "fit.safetensors")
    saved = _loop(dataset, split, epochs=5, **settings)
    saved.epoch()
    saved.epoch()
    saved.save(checkpoint)
    restored = _loop(dataset, split, epochs=5, **settings)
    restored.restore(*checkpoint.load(saved.job.key))
    assert restored.reports == saved.reports
    for _ in range(3):
        one, other = saved.epoch(), restored.epoch()
        assert (one.epoch, one.skills, one.loss) == (other.epoch, other.skills, other.loss)
    assert _equal(saved.finish().network.state_dict(), restored.finish().network.state_dict())


def test_a_loss_that_is_not_finite_ends_the_training(dataset, split):
    loop = _loop(dataset, split)
    loop.epoch()
    with torch.no_grad():
        next(loop.network.heads.parameters()).fill_(torch.nan)
    with pytest.raises(
        TrainingFailed, match="charge, edge, heavy: loss is nan in epoch 2"
    ) as caught:
        loop.epoch()
    assert caught.value.fail_kind == "nan"
    assert len(loop.reports) == 1


def test_a_loop_may_be_closed_twice(dataset, split):
    loop = _loop(dataset, split, epochs=1)
    loop.epoch()
    loop.close()
    loop.close()
    assert loop.finish().result.epochs_run == 1
