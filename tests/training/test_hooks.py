"""What hooks see, and when."""

import pytest
import torch

from taskgroup.training import Hook, fit

from .conftest import make_job


class _Diary(Hook):
    def __init__(self):
        self.entries = []

    def on_start(self, context):
        self.entries.append(("start", context.epoch, context.step))

    def on_step(self, context):
        self.entries.append(("step", context.epoch, context.step))

    def on_epoch(self, context):
        self.entries.append(("epoch", context.report.epoch, context.step))

    def on_end(self, context):
        self.entries.append(("end", context.result.key, context.step))


def test_hooks_are_called_in_order(dataset, split):
    diary, job = _Diary(), make_job(dataset, epochs=2)
    fit(dataset, split, job, hooks=[diary])
    assert diary.entries == [
        ("start", 0, 0),
        ("step", 1, 0),
        ("step", 1, 1),
        ("epoch", 1, 2),
        ("step", 2, 2),
        ("step", 2, 3),
        ("epoch", 2, 4),
        ("end", job.key, 4),
    ]


def test_a_hook_is_shown_the_steps_it_looks_at(dataset, split):
    class Third(_Diary):
        def looks_at(self, step):
            return step % 3 == 0

    diary = Third()
    fit(dataset, split, make_job(dataset, epochs=2), hooks=[diary, Hook()])
    assert [entry for entry in diary.entries if entry[0] == "step"] == [
        ("step", 1, 0),
        ("step", 2, 3),
    ]
    assert not Hook().looks_at(0)


class _Gradients(Hook):
    """Differentiates each loss, as affinities do, and checks what it is told against the network itself."""

    def __init__(self):
        self.gramians = []

    def on_step(self, context):
        rows = [
            torch.autograd.grad(loss, context.shared, retain_graph=True) for loss in context.losses
        ]
        flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        self.gramians.append(flat @ flat.T)
        again = context.target_losses(context.outputs, context.labels, context.present)
        torch.testing.assert_close(again, context.losses)
        assert context.features.shape == (len(context.labels), context.network.n_features)
        assert len(context.rows) == context.lattice.shape[0] == len(context.outputs)


@pytest.mark.parametrize("balance", ["mean", "pcgrad"])
def test_a_hook_may_differentiate_the_losses_without_changing_the_training(dataset, split, balance):
    job, hook = make_job(dataset, balance=balance), _Gradients()
    watched = fit(dataset, split, job, hooks=[hook]).result
    assert watched.metrics == fit(dataset, split, job).result.metrics
    assert all((torch.linalg.eigvalsh(gramian) > 0).all() for gramian in hook.gramians)


def test_shared_parameters_are_those_behind_the_features(dataset, split):
    class Shared(Hook):
        def on_step(self, context):
            parameters = list(context.network.parameters())
            grads = torch.autograd.grad(
                context.features.sum(),
                parameters,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=False,
            )
            used = {id(p) for p, g in zip(parameters, grads, strict=True) if g is not None}
            assert used == {id(p) for p in context.shared}

    fit(dataset, split, make_job(dataset, epochs=1), hooks=[Shared()])
