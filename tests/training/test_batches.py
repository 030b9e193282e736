"""Batches of an epoch: every row once, never a single one, with the targets and rates of each step."""

import pytest
import torch

from taskgroup.training import TrainConfig
from taskgroup.training.batches import Batches
from taskgroup.training.device_rows import Labels
from taskgroup.training.optimise import average_rate, learning_rate


def _labels(rows=20, targets=2, present=None) -> Labels:
    has_label = torch.ones(rows, targets) if present is None else torch.tensor(present).float()
    return Labels(
        values=torch.zeros_like(has_label),
        present=has_label,
        train=torch.arange(len(has_label)),
        complete=bool(has_label.all()),
    )


def _batches(labels, **settings) -> Batches:
    generator = torch.Generator().manual_seed(0)
    return Batches(labels, TrainConfig(**{"batch_size": 6} | settings), generator)


@pytest.mark.parametrize("rows", [2, 3, 5, 20, 21])
@pytest.mark.parametrize("batch_size", [2, 3, 6, 64])
def test_every_row_is_drawn_once_and_no_batch_has_a_single_row(rows, batch_size):
    batches = _batches(_labels(rows), batch_size=batch_size)
    drawn = batches.draw(first_step=0)
    sizes = [len(batch.rows) for batch in drawn]
    assert sorted(torch.cat([batch.rows for batch in drawn]).tolist()) == list(range(rows))
    assert len(drawn) == batches.per_epoch
    assert min(sizes) >= 2
    assert max(sizes) == batches.most_rows
    assert max(sizes) - min(sizes) <= 1


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides():
    first, again = _batches(_labels()), _batches(_labels())
    orders = [[batch.rows.tolist() for batch in first.draw(step)] for step in (0, 4)]
    assert orders[0] != orders[1]
    assert orders == [[batch.rows.tolist() for batch in again.draw(step)] for step in (0, 4)]


def test_targets_with_a_label_are_named_for_each_batch():
    present = [[1, 0]] * 10 + [[1, 1]] * 2
    drawn = _batches(_labels(present=present), batch_size=2).draw(first_step=0)
    for batch in drawn:
        expected = [0, 1] if (batch.rows >= 10).any() else [0]
        assert batch.present_targets == expected
    assert {len(batch.present_targets) for batch in drawn} == {1, 2}


def test_rates_follow_the_schedule_of_the_whole_training():
    batches = _batches(_labels(), epochs=3, ema=0.9, lr=0.1, warmup=0.5)
    assert batches.per_epoch == 4
    assert batches.steps == 12
    config = TrainConfig(epochs=3, ema=0.9, lr=0.1, warmup=0.5)
    rates = [batch.rates for batch in batches.draw(first_step=8)]
    expected = [
        (learning_rate(config, step, 12), average_rate(0.9, step + 1)) for step in range(8, 12)
    ]
    assert rates == expected
