"""Training small networks: what is learnt, what is not looked at, and that a job always gives the same."""

import numpy as np
import pytest
import torch

from taskgroup.errors import ConfigError, TargetError, TrainingFailed
from taskgroup.training import Hook, fit, fit_epochs, mean_skill, predict_rows
from taskgroup.training.device_rows import encode_labels
from taskgroup.training.hooks import HookContext
from taskgroup.training.metrics import group_metrics

from .conftest import SPECS, make_dataset, make_job, make_split


def _same(one, other):
    """Whether two fits gave the same, bit for bit, time aside."""
    assert one.result.curve == other.result.curve
    assert one.result.train_curve == other.result.train_curve
    assert one.result.metrics == other.result.metrics
    assert np.array_equal(one.predictions, other.predictions)
    return True


def test_a_group_of_both_kinds_is_learnt(dataset, split, device):
    found = fit(dataset, split, make_job(dataset, epochs=40, batch_size=8), device=device).result
    assert mean_skill(found.skills) > 0.8
    assert found.train_curve[-1] < 0.5 * found.train_curve[0]


def test_a_single_target_is_learnt_whatever_the_balancer(dataset, split):
    plain = fit(dataset, split, make_job(dataset, ("charge",), epochs=3))
    balanced = fit(dataset, split, make_job(dataset, ("charge",), epochs=3, balance="pcgrad"))
    assert np.array_equal(plain.predictions, balanced.predictions)


@pytest.mark.parametrize("balance", ["mean", "pcgrad", "dwa"])
def test_the_same_job_gives_the_same_bits_and_another_seed_others(dataset, split, balance):
    job = make_job(dataset, balance=balance)
    first = fit(dataset, split, job)
    torch.rand(7)
    assert _same(first, fit(dataset, split, job))
    other = fit(dataset, split, make_job(dataset, balance=balance, seed=1))
    assert not np.array_equal(first.predictions, other.predictions)


def test_fits_that_take_turns_give_what_they_give_alone(dataset, split):
    jobs = [
        make_job(dataset, targets)
        for targets in (("charge", "edge"), ("heavy",), ("charge", "sparse"))
    ]
    turns = [fit_epochs(dataset, split, job) for job in jobs]
    ended = {}
    while len(ended) < len(jobs):
        for i, epochs in enumerate(turns):
            if i not in ended:
                try:
                    next(epochs)
                except StopIteration as end:
                    ended[i] = end.value
    assert all(_same(ended[i], fit(dataset, split, job)) for i, job in enumerate(jobs))


def test_the_random_state_of_the_caller_is_left_alone(dataset, split):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(dataset, split, make_job(dataset, balance="pcgrad"))
    assert torch.equal(torch.rand(3), expected)


def test_test_rows_are_not_looked_at(dataset, split):
    values = dataset.targets.values.copy()
    values[split.test, :2] = 77.0
    values[split.test, 2] = 1 - values[split.test, 2]
    changed = make_dataset(values=values)
    assert _same(fit(dataset, split, make_job(dataset)), fit(changed, split, make_job(changed)))


def test_validation_labels_change_no_training_step(dataset, split):
    values = dataset.targets.values.copy()
    values[split.validation, 0] *= 3
    changed = make_dataset(values=values)
    one, other = fit(dataset, split, make_job(dataset)), fit(changed, split, make_job(changed))
    assert one.result.train_curve == other.result.train_curve
    assert one.result.curve != other.result.curve


def test_labels_are_standardised_on_training_rows_only(dataset, split):
    table = dataset.targets.select(["charge", "sparse"])
    scaler, labels = encode_labels(table, split, torch.device("cpu"))
    for i in range(2):
        known = labels.present[split.train, i].bool()
        z = labels.values[split.train, i][known].double()
        assert z.mean().item() == pytest.approx(0, abs=1e-6)
        assert z.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    everywhere = np.nanmean(table.values[:, 0])
    assert scaler.mean[0] != pytest.approx(everywhere, abs=1e-9)


def test_rows_without_a_label_of_the_group_do_not_train(dataset, split):
    _, labels = encode_labels(dataset.targets.select(["sparse"]), split, torch.device("cpu"))
    assert sorted(labels.train.tolist()) == [row for row in split.train if row % 4 == 0]


class _Batches(Hook):
    def __init__(self):
        self.sizes, self.seen, self.present = [], [], []

    def on_step(self, context):
        self.sizes.append(len(context.labels))
        self.seen += context.labels[:, 0].tolist()
        self.present.append(
            (context.present.any(0).nonzero().flatten().tolist(), context.present_targets)
        )


@pytest.mark.parametrize("batch_size", [2, 3, 15, 31, 32, 1000])
def test_every_training_row_is_seen_once_an_epoch_and_never_alone(dataset, split, batch_size):
    hook = _Batches()
    fit(
        dataset,
        split,
        make_job(dataset, ("charge",), epochs=1, batch_size=batch_size),
        hooks=[hook],
    )
    assert min(hook.sizes) >= 2
    assert max(hook.sizes) <= batch_size + 1
    assert max(hook.sizes) - min(hook.sizes) <= 1
    _, labels = encode_labels(dataset.targets.select(["charge"]), split, torch.device("cpu"))
    assert sorted(hook.seen) == sorted(labels.values[labels.train, 0].tolist())


def test_an_odd_number_of_rows_in_batches_of_two_leaves_no_row_alone(dataset, split):
    hook = _Batches()
    values = dataset.targets.values.copy()
    values[split.train[7:], 0] = np.nan
    cut = make_dataset(values=values)
    fit(cut, split, make_job(cut, ("charge",), epochs=1, batch_size=2), hooks=[hook])
    assert sorted(hook.sizes) == [2, 2, 3]


def test_targets_missing_from_a_batch_are_named(dataset, split):
    hook = _Batches()
    fit(
        dataset,
        split,
        make_job(dataset, ("charge", "sparse"), batch_size=3, balance="pcgrad"),
        hooks=[hook],
    )
    assert all(found == told for found, told in hook.present)
    assert {tuple(found) for found, _ in hook.present} == {(0,), (0, 1)}


def _truth(dataset, split, found):
    return dataset.targets.select(found.result.targets).values[split.validation]


def test_the_best_epoch_is_kept_and_measured(dataset, split):
    found = fit(dataset, split, make_job(dataset, epochs=12, lr=0.05))
    means = [mean_skill(skills) for skills in found.result.curve]
    assert found.result.best_epoch == int(np.argmax(means)) + 1
    again = predict_rows(found.network, dataset, split.validation)
    measured = group_metrics(
        dataset.targets.select(found.result.targets).specs, _truth(dataset, split, found), again
    )
    skills = {target: values["skill"] for target, values in measured.items()}
    assert skills == pytest.approx(found.result.curve[found.result.best_epoch - 1], abs=1e-5)


def test_rows_are_predicted_at_the_epoch_the_others_chose(dataset, split):
    class Watch(Hook):
        def __init__(self) -> None:
            self.outputs = []

        def on_epoch(self, context: HookContext) -> None:
            self.outputs.append(predict_rows(context.network, dataset, split.validation))

    watch = Watch()
    found = fit(dataset, split, make_job(dataset, epochs=30, lr=0.05, augment=False), hooks=[watch])
    systems = np.array(dataset.chemical_systems)[split.validation]
    part = np.searchsorted(np.unique(systems), systems) % 5
    specs = dataset.targets.select(found.result.targets).specs
    truth = _truth(dataset, split, found)
    chosen = set()
    for each in range(5):
        others, rows = part != each, part == each
        values = [
            mean_skill(
                {
                    t: m["skill"]
                    for t, m in group_metrics(specs, truth[others], outputs[others]).items()
                }
            )
            for outputs in watch.outputs
        ]
        chosen.add(int(np.argmax(values)))
        np.testing.assert_allclose(
            found.predictions[rows], watch.outputs[np.argmax(values)][rows], rtol=1e-4, atol=1e-5
        )
    assert len(chosen) > 1  # else nothing was told apart
    assert found.result.metrics == group_metrics(specs, truth, found.predictions)


def test_predictions_are_in_units_and_agree_with_the_metrics(dataset, split):
    found = fit(dataset, split, make_job(dataset, epochs=5))
    assert found.result.targets == ("charge", "edge", "heavy")
    assert found.predictions.shape == (len(split.validation), 3)
    truth = dataset.targets.values[split.validation]
    error = np.abs(found.predictions[:, 1] - truth[:, 1]).mean()
    assert found.result.metrics["edge"]["mae"] == pytest.approx(error, rel=1e-5)
    assert ((found.predictions[:, 2] >= 0) & (found.predictions[:, 2] <= 1)).all()


def test_training_stops_when_patience_runs_out(dataset, split):
    found = fit(dataset, split, make_job(dataset, epochs=200, patience=3, lr=0.05)).result
    assert found.epochs_run < 200
    assert found.epochs_run == found.best_epoch + 3


def test_reports_come_one_an_epoch_and_make_the_curve(dataset, split):
    epochs = fit_epochs(dataset, split, make_job(dataset))
    reports = []
    try:
        while True:
            reports.append(next(epochs))
    except StopIteration as end:
        result = end.value.result
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert tuple(report.skills for report in reports) == result.curve
    assert tuple(report.loss for report in reports) == result.train_curve
    assert result.seconds >= sum(report.seconds for report in reports)


def test_averaged_weights_are_the_ones_validated_and_kept(dataset, split):
    plain, averaged = (
        fit(dataset, split, make_job(dataset, ema=ema, epochs=6)) for ema in (0.0, 0.9)
    )
    assert plain.result.train_curve == averaged.result.train_curve
    assert plain.result.curve != averaged.result.curve


def test_bfloat16_begins_nearly_as_float32(dataset, split):
    exact, rounded = (
        fit(dataset, split, make_job(dataset, precision=p)).result for p in ("float32", "bfloat16")
    )
    assert rounded.train_curve[0] == pytest.approx(exact.train_curve[0], rel=0.05)
    assert rounded.train_curve != exact.train_curve


class _Poison(Hook):
    def on_epoch(self, context):
        with torch.no_grad():
            next(context.network.parameters()).fill_(torch.nan)


class _Hungry(Hook):
    def on_step(self, context):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_a_loss_that_is_not_finite_is_a_failure_of_kind_nan(dataset, split):
    with pytest.raises(TrainingFailed, match="epoch 2") as caught:
        fit(dataset, split, make_job(dataset), hooks=[_Poison()])
    assert caught.value.fail_kind == "nan"


def test_running_out_of_memory_is_a_failure_of_its_kind(dataset, split):
    with pytest.raises(TrainingFailed, match="charge, edge, heavy: out of memory") as caught:
        fit(dataset, split, make_job(dataset), hooks=[_Hungry()])
    assert caught.value.fail_kind == "out_of_memory"


def test_other_errors_pass_unchanged(dataset, split):
    class Broken(Hook):
        def on_start(self, context):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fit(dataset, split, make_job(dataset), hooks=[Broken()])


def test_another_dataset_than_the_jobs_is_refused(dataset, split):
    other = make_dataset(seed=1)
    with pytest.raises(ConfigError, match="hash must be"):
        fit(other, split, make_job(dataset))


def test_an_unknown_target_is_refused(dataset, split):
    with pytest.raises(TargetError, match="did you mean 'charge'"):
        fit(dataset, split, make_job(dataset, ("chargee",)))


def test_a_target_without_training_labels_is_refused(dataset, split):
    values = dataset.targets.values.copy()
    values[split.train, 3] = np.nan
    cut = make_dataset(values=values)
    with pytest.raises(TargetError, match="sparse"):
        fit(cut, split, make_job(cut, ("charge", "sparse")))


def test_a_target_without_validation_labels_has_no_skill(dataset, split):
    values = dataset.targets.values.copy()
    values[split.validation, 0] = np.nan
    cut = make_dataset(values=values)
    found = fit(cut, split, make_job(cut, ("charge", "edge"))).result
    assert found.skills["charge"] is None
    assert found.skills["edge"] is not None
    alone = fit(cut, split, make_job(cut, ("charge",))).result
    assert alone.best_epoch == 3  # nothing to choose by: the last


def test_an_unusable_device_is_refused(dataset, split, monkeypatch):
    monkeypatch.setenv("TASKGROUP_DEVICE", "graphics")
    with pytest.raises(ConfigError, match="device: must be like cpu"):
        fit(dataset, split, make_job(dataset))


def test_the_synthetic_targets_are_what_the_tests_take_them_for(dataset):
    assert dataset.targets.specs == SPECS
    assert make_split(dataset).id == make_split(make_dataset()).id
