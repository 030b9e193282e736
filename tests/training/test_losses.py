"""Losses against torch's own on each column's labelled rows."""

import pytest
import torch
import torch.nn.functional as F

from taskgroup.training.losses import TargetLosses

KINDS = ("regression", "classification", "regression")


def _batch(seed=0, rows=12):
    torch.manual_seed(seed)
    outputs = torch.randn(rows, 3, requires_grad=True)
    labels = torch.randn(rows, 3) * 2
    labels[:, 1] = (labels[:, 1] > 0).float()
    present = (torch.rand(rows, 3) < 0.6).float()
    return outputs, labels * present, present


@pytest.mark.parametrize(("loss", "plain"), [("huber", F.huber_loss), ("mse", F.mse_loss)])
def test_each_loss_is_the_mean_over_the_labels_of_its_target(loss, plain):
    outputs, labels, present = _batch()
    found = TargetLosses(KINDS, loss)(outputs, labels, present)
    for i, kind in enumerate(KINDS):
        there = present[:, i].bool()
        reference = plain if kind == "regression" else F.binary_cross_entropy_with_logits
        torch.testing.assert_close(found[i], reference(outputs[there, i], labels[there, i]))


@pytest.mark.parametrize("kinds", [("regression",) * 3, ("classification",) * 3])
def test_groups_of_one_kind_give_the_same_as_mixed_code(kinds):
    outputs, labels, present = _batch()
    labels = labels.clamp(0, 1)
    for i, kind in enumerate(kinds):
        mixed = [*KINDS[:i], kind, *KINDS[i + 1 :]]
        whole, part = (
            TargetLosses(kinds)(outputs, labels, present),
            TargetLosses(mixed)(outputs, labels, present),
        )
        torch.testing.assert_close(whole[i], part[i])


def test_a_target_without_a_label_gives_zero_and_no_gradient():
    outputs, labels, present = _batch()
    present[:, 2] = 0
    losses = TargetLosses(KINDS)(outputs, labels, present)
    losses.sum().backward()
    assert losses[2] == 0
    assert torch.equal(outputs.grad[:, 2], torch.zeros(12))
    assert torch.isfinite(outputs.grad).all()


def test_a_missing_label_sends_no_gradient_even_for_huge_outputs():
    outputs, labels, present = _batch()
    with torch.no_grad():
        outputs[present == 0] = 1e30
    TargetLosses(KINDS)(outputs, labels, present).sum().backward()
    assert torch.equal(outputs.grad[present == 0], torch.zeros(int((present == 0).sum())))
    assert torch.isfinite(outputs.grad).all()
