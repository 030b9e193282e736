"""Affinities collected by hooks of a real joint run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.affinity.gradients import (
    JOINT_AFFINITIES,
    combine,
    cosines,
    gramian,
    relative,
)
from taskgroup.errors import ConfigError, GroupingError
from taskgroup.training import Hook, fit
from taskgroup.training.affinity_hooks import (
    AffinityHook,
    gradient_affinity,
    joint_affinities,
    network_features,
    projected_gradients,
)

from .conftest import make_dataset, make_job, make_split

ALL = ("charge", "edge", "heavy", "sparse")


@pytest.mark.parametrize("measure", ["gradient", "look_ahead"])
@pytest.mark.parametrize("balance", ["mean", "pcgrad"])
def test_probing_every_step_changes_nothing_of_the_training(dataset, split, measure, balance):
    job, hook = make_job(dataset, ALL, balance=balance, epochs=2), AffinityHook(measure, every=1)
    watched = fit(dataset, split, job, hooks=[hook])
    plain = fit(dataset, split, job)
    assert watched.result.metrics == plain.result.metrics
    ours, theirs = watched.network.state_dict(), plain.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class _Steps(Hook):
    """Keeps what a probe at each step should have seen."""

    def __init__(self):
        self.probes, self.epoch_means = [], []

    def on_step(self, context):
        self.probes.append(cosines(gramian(context.losses, context.shared)).double().numpy())

    def on_epoch(self, context):
        steps = context.step // context.epoch
        self.epoch_means.append(np.nanmean(self.probes[-steps:], axis=0))


def test_cosines_are_the_mean_over_probes_and_spread_between_epochs(dataset, split):
    steps, hook = _Steps(), AffinityHook("gradient", every=1)
    job = make_job(dataset)
    fit(dataset, split, job, hooks=[steps, hook])
    found = hook.affinity()
    assert found.names == job.targets
    np.testing.assert_allclose(found.values, np.mean(steps.probes, axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        found.spread, np.std(steps.epoch_means, axis=0, ddof=1), rtol=1e-5, atol=1e-7
    )


def test_two_targets_that_are_the_same_thing_agree_and_help_each_other(dataset):
    values = dataset.targets.values.copy()
    values[:, 3] = values[:, 0] + 0.1 * np.random.default_rng(0).normal(size=len(values))
    twins = make_dataset(values=values)
    jobs = [
        make_job(twins, ("charge", "edge", "sparse"), seed=seed, epochs=10) for seed in range(3)
    ]
    runs = [
        joint_affinities(twins, make_split(twins), job, ("gradient", "look_ahead"), every=1)
        for job in jobs
    ]
    cosine, look_ahead = (
        combine([run[measure] for run in runs]) for measure in ("gradient", "look_ahead")
    )
    assert cosine.value("charge", "sparse") > cosine.value("edge", "sparse") + 0.2
    np.testing.assert_allclose(np.diag(cosine.values), 1, rtol=1e-5)
    np.testing.assert_allclose(cosine.values, cosine.values.T)
    assert (np.diag(look_ahead.values) > 0).all()
    assert look_ahead.value("charge", "sparse") > max(0, look_ahead.value("edge", "sparse"))
    assert not np.allclose(look_ahead.values, look_ahead.values.T)


def test_a_small_look_ahead_step_is_the_gramian_over_the_losses(dataset, split):
    class Expected(Hook):
        def on_step(self, context):
            self.value = (gramian(context.losses, context.shared) / context.losses).detach().numpy()

    expected, hook = Expected(), AffinityHook("look_ahead", every=1, step=2e-4)
    job = make_job(dataset, epochs=1, batch_size=64)  # one step
    job = replace(
        job, model=job.model.model_copy(update={"dropout": 0.0})
    )  # a probe draws masks of its own
    fit(dataset, split, job, hooks=[expected, hook])
    np.testing.assert_allclose(hook.affinity().values / 2e-4, expected.value, rtol=0.1, atol=0.02)


def test_look_ahead_is_finished_relative_to_the_step_of_the_affected_target(dataset, split):
    job, hook = make_job(dataset, epochs=2), AffinityHook("look_ahead", every=1)
    fit(dataset, split, job, hooks=[hook])
    finished = gradient_affinity(dataset, split, job, "look_ahead", every=1)
    np.testing.assert_array_equal(finished.values, relative(hook.affinity()).values)


def test_every_joint_affinity_bears_the_name_it_is_asked_by(dataset, split):
    together = joint_affinities(dataset, split, make_job(dataset, epochs=2), every=2)
    assert list(together) == list(JOINT_AFFINITIES)
    assert [affinity.measure for affinity in together.values()] == list(JOINT_AFFINITIES)


def test_probes_are_as_far_apart_as_asked(dataset, split):
    class Counting(AffinityHook):
        def on_start(self, context):
            super().on_start(context)
            self.count, add = 0, self._probes.add

            def counted(probe):
                self.count += 1
                add(probe)

            self._probes.add = counted

    hook = Counting("gradient", every=3)
    fit(
        dataset, split, make_job(dataset, epochs=4), hooks=[hook]
    )  # 2 steps an epoch: probes at 1, 4 and 7
    assert hook.count == 3


def test_projected_gradients_of_a_trained_network_reproduce_it_and_answer_for_subsets(
    dataset, split
):
    network = fit(dataset, split, make_job(dataset, ALL, epochs=6)).network
    network.train()
    projected = projected_gradients(network, dataset, split, dim=64)
    assert network.training
    assert projected.names == ALL
    assert projected.gradients.shape == (len(split.train) + len(split.validation), 4, 64)
    assert projected.train.sum() == len(split.train)
    assert np.isnan(projected.labels).mean(axis=0).tolist() == pytest.approx(
        [0, 0, 0, 0.75], abs=0.1
    )
    subset = projected.estimate(["charge", "edge"])
    assert subset.keys() == {"charge", "edge"}
    assert all(skill <= 1 for skill in subset.values())
    frozen = type(projected)(**{**vars(projected), "ridge": 1e9})
    np.testing.assert_allclose(frozen.predict(ALL), projected.outputs, atol=1e-4)


def test_the_projected_affinity_is_directed_and_zero_on_the_diagonal(dataset, split):
    found = gradient_affinity(dataset, split, make_job(dataset), "projected")
    assert found.measure == "projected"
    np.testing.assert_array_equal(np.diag(found.values), 0)
    assert not np.allclose(found.values, found.values.T)


def test_all_measures_come_from_one_run_as_they_come_alone(dataset, split):
    job = make_job(dataset, epochs=2)
    together = joint_affinities(dataset, split, job, every=2)
    assert together.keys() == {"gradient", "look_ahead", "projected"}
    for measure, found in together.items():
        alone = gradient_affinity(dataset, split, job, measure, every=2)
        np.testing.assert_array_equal(found.values, alone.values)


def test_features_are_those_behind_the_predictions_and_serve_the_target_they_were_learned_for(
    dataset, split
):
    fitted = fit(
        dataset, split, make_job(dataset, ("charge",), epochs=1)
    )  # one: that all rows choose
    features = network_features(fitted.network, dataset, split.validation, batch_size=5)
    assert len(features) == len(split.validation)
    with torch.no_grad():
        predicted = fitted.network.decode(fitted.network.eval().heads(torch.as_tensor(features)))
    np.testing.assert_allclose(predicted.numpy(), fitted.predictions, rtol=1e-4)


def test_requests_that_cannot_be_met_say_why(dataset, split):
    job = make_job(dataset, epochs=1)
    with pytest.raises(ConfigError, match="did you mean 'gradient'"):
        gradient_affinity(dataset, split, job, "gradien")
    with pytest.raises(ConfigError, match="at least 1 step"):
        AffinityHook("look_ahead", every=0)
    with pytest.raises(GroupingError, match="not part of a training run"):
        AffinityHook("look_ahead").affinity()
    with pytest.raises(GroupingError, match="before the first"):
        gradient_affinity(dataset, split, job, "gradient", every=1000)
