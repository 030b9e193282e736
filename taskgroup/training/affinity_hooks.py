"""Affinities measured while one joint network trains, by probes every few steps.

    >>> hook = AffinityHook("gradient")                                 # doctest: +SKIP
    >>> fit(dataset, split, job, hooks=[hook]); print(hook.affinity())  # doctest: +SKIP

A probe does not change the training: it draws no random number of the run, fills no ``.grad``, moves no parameter and
no running mean, so a run with the hook gives the result of the run without it.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from taskgroup.affinity.affinity import Affinity
from taskgroup.affinity.gradients import (
    JOINT_AFFINITIES,
    Accumulator,
    ProjectedGradients,
    cosines,
    gramian,
    look_ahead,
    project_gradients,
    task_gradients,
)
from taskgroup.datasets import Dataset, Split
from taskgroup.errors import ConfigError, GroupingError, did_you_mean
from taskgroup.training.device_rows import encode_labels, prepare_rows
from taskgroup.training.fit import fit
from taskgroup.training.hooks import Hook, HookContext
from taskgroup.training.result import GroupJob

MEASURES = tuple(JOINT_AFFINITIES)


class AffinityHook(Hook):
    """Collects the affinities ``gradient`` or ``look_ahead`` in a joint run.

    Parameters
    ----------
    measure: ``gradient`` or ``look_ahead``.
    every: steps from one probe to the next; by default as ``JOINT_AFFINITIES`` says. A probe is a backward pass per
        target for ``gradient`` (a run takes about 1.1 times as long), a backward and a forward pass per target for
        ``look_ahead`` (about 1 + T/9 times).
    step: learning rate of the look-ahead step; by default the job's.
    """

    def __init__(
        self, measure: str = "gradient", every: int | None = None, step: float | None = None
    ) -> None:
        _check_measure(measure, _PROBES)
        if every is not None and every < 1:
            raise ConfigError(f"affinity probes: every must be at least 1 step, but got {every}")
        self.measure = measure
        self.every = every
        self.step = step
        self._probes: Accumulator | None = None

    def on_start(self, context: HookContext) -> None:
        """Begin anew; what an earlier run collected is dropped."""
        self._probes = Accumulator(context.targets)
        default_distance = JOINT_AFFINITIES[self.measure].probe_distance
        self._distance = self.every or default_distance(len(context.targets))

    def looks_at(self, step: int) -> bool:
        """Return True for one step in ``every``."""
        return step % self._distance == self._distance // 2

    def on_step(self, context: HookContext) -> None:
        """Probe the step about to be taken."""
        step = self.step or context.job.training.lr
        self._probes.add(_PROBES[self.measure](context, step))

    def on_epoch(self, context: HookContext) -> None:
        """Close the epoch: the spread is taken between epochs."""
        self._probes.checkpoint()

    def affinity(self) -> Affinity:
        """Return the mean over probes and the spread between epochs; the numbers are not finished (``JointAffinity``).

        Raises GroupingError: the hook was in no run, or the run ended before the first probe.
        """
        if self._probes is None:
            raise GroupingError(
                f"affinity '{self.measure}': the hook was not part of a training run"
            )
        return self._probes.affinity(self.measure)


def gradient_affinity(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    measure: str = "gradient",
    *,
    every: int | None = None,
    device: str | torch.device | None = None,
) -> Affinity:
    """Return the affinity of a job's targets, ``values[helper, affected]``, from one joint run of that job.

    Parameters
    ----------
    dataset, split, job, device: as for ``fit``; ``job.targets`` are all the targets to compare.
    measure: ``gradient``, cosines of the targets' gradients; ``look_ahead`` (TAG, arXiv:2109.04617), what a step on
        one target does to the loss of another, relative to a step of the affected target's own; or ``projected``, the
        gain of each pair over its single targets as estimated by ``projected_gradients`` (arXiv:2409.06091).
    every: see ``AffinityHook``; not for ``projected``, which asks the trained network.

    Raises ConfigError: an unknown measure; and what ``fit`` raises.
    """
    return joint_affinities(dataset, split, job, (measure,), every=every, device=device)[measure]


def joint_affinities(
    dataset: Dataset,
    split: Split,
    job: GroupJob,
    measures: Sequence[str] = MEASURES,
    *,
    every: int | None = None,
    device: str | torch.device | None = None,
) -> dict[str, Affinity]:
    """Return several measures of ``gradient_affinity`` by name, from the same joint run."""
    for measure in measures:
        _check_measure(measure, MEASURES)
    hooks = {measure: AffinityHook(measure, every) for measure in measures if measure in _PROBES}
    network = fit(dataset, split, job, device=device, hooks=list(hooks.values())).network
    affinities = {}
    for measure in measures:
        if measure in hooks:
            affinity = hooks[measure].affinity()
        else:
            affinity = projected_gradients(network, dataset, split).affinity()
        affinities[measure] = JOINT_AFFINITIES[measure].finish(affinity)
    return affinities


def projected_gradients(
    network: nn.Module,
    dataset: Dataset,
    split: Split,
    *,
    dim: int = 256,
    most_rows: int = 512,
    seed: int = 0,
) -> ProjectedGradients:
    """Linearise a trained MultiTaskNetwork on training and validation rows, to estimate any subset of its targets.

    Parameters
    ----------
    network: trained on all the targets to be considered, on the training rows of ``split``.
    dim: length of the projected gradients.
    most_rows: training rows used at most, and validation rows likewise, drawn with ``seed``; the cost is one backward
        pass of a single row for each row and target.
    """
    device = next(network.parameters()).device
    table = dataset.targets.select([spec.name for spec in network.targets])
    data = prepare_rows(dataset, network.view, device)
    _, labels = encode_labels(table, split, device)
    random = np.random.default_rng(seed)
    training_rows = random.permutation(split.train)[:most_rows]
    validation_rows = random.permutation(split.validation)[:most_rows]
    rows = np.concatenate([training_rows, validation_rows])
    rows_on_device = torch.as_tensor(rows, device=device)

    def outputs_of(row: int) -> Tensor:
        return network(*data.batch(rows_on_device[row : row + 1]))[0]

    with _evaluation_mode(network):
        features = network.features(*data.batch(rows_on_device[:1]))
        shared = _parameters_behind(features, network)
        outputs, gradients = project_gradients(outputs_of, len(rows), shared, dim, seed)
    standardised = labels.values.double().cpu().numpy()
    return ProjectedGradients(
        names=table.names,
        kinds=tuple(spec.kind for spec in table.specs),
        outputs=outputs,
        gradients=gradients,
        labels=np.where(np.isnan(table.values), np.nan, standardised)[rows],
        train=np.arange(len(rows)) < len(training_rows),
    )


def network_features(
    network: nn.Module, dataset: Dataset, rows: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
    """Return features ``[rows, F]`` of a MultiTaskNetwork, for ``taskgroup.affinity.transfer_matrix``."""
    device = next(network.parameters()).device
    data = prepare_rows(dataset, network.view, device)
    with _evaluation_mode(network), torch.no_grad():
        parts = torch.as_tensor(rows, device=device).split(batch_size)
        features = torch.cat([network.features(*data.batch(part)).float() for part in parts])
    return features.cpu().numpy()


@contextlib.contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _check_measure(measure: str, known: Collection[str]) -> None:
    if measure not in known:
        raise ConfigError(
            f"affinity measured in training: unknown '{measure}'; {did_you_mean(measure, known)}"
        )


def _probe_look_ahead(context: HookContext, step: float) -> Tensor:
    """Return look-ahead affinities of the batch, all losses computed with the same dropout masks."""
    network = context.network
    names = _names_of(network, context.shared)
    seed = context.step

    def losses_at(moved: Sequence[Tensor]) -> Tensor:
        torch.manual_seed(seed)
        # Copies: batch normalisation moves its running statistics in every forward pass.
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        state = dict(zip(names, moved, strict=True)) | buffers
        outputs = functional_call(network, state, (context.rows, context.lattice))
        return context.target_losses(outputs, context.labels, context.present)

    with torch.random.fork_rng():
        losses = losses_at(context.shared)
        gradients = task_gradients(losses, context.shared)
        return look_ahead(losses.detach(), gradients, context.shared, losses_at, step)


def _probe_cosines(context: HookContext, step: float) -> Tensor:
    """Return cosines of the batch; the learning rate ``step`` does not matter to them."""
    return cosines(gramian(context.losses, context.shared))


_PROBES = {"gradient": _probe_cosines, "look_ahead": _probe_look_ahead}


def _parameters_behind(features: Tensor, network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that all targets share: those the features depend on."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return [parameter for parameter, gradient in pairs if gradient is not None]


def _names_of(network: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str]:
    """Return the names of some of a network's parameters, in their order."""
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return [name_of[id(parameter)] for parameter in parameters]
