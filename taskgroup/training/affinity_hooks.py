"""Affinities measured while one joint network trains: probes every few steps, at a promised cost.

    >>> hook = AffinityHook("gradient")                                 # doctest: +SKIP
    >>> fit(dataset, split, job, hooks=[hook]); print(hook.affinity())  # doctest: +SKIP

A probe does not change the training: it draws no random number of the run, fills no ``.grad``, moves no parameter and
no running mean, so a run with the hook gives the result of the run without it.
"""

from collections.abc import Sequence

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
        if measure not in _PROBES:
            raise ConfigError(
                f"affinity measured in training: unknown '{measure}': {did_you_mean(measure, _PROBES)}"
            )
        if every is not None and every < 1:
            raise ConfigError(f"affinity probes: every must be at least 1 step, but got {every}")
        self.measure, self.every, self.step = measure, every, step
        self._probes: Accumulator | None = None

    def on_start(self, context: HookContext) -> None:
        """Begin anew; what an earlier run collected is dropped."""
        self._probes = Accumulator(context.targets)
        self._distance = self.every or JOINT_AFFINITIES[self.measure].probe_distance(
            len(context.targets)
        )

    def looks_at(self, step: int) -> bool:
        """One step in ``every``."""
        return step % self._distance == self._distance // 2

    def on_step(self, context: HookContext) -> None:
        """Probe the step about to be taken."""
        step = self.step or context.job.training.lr
        self._probes.add(_PROBES[self.measure](context, step))

    def on_epoch(self, context: HookContext) -> None:
        """An epoch is a checkpoint: the spread is taken between epochs."""
        self._probes.checkpoint()

    def affinity(self) -> Affinity:
        """The mean over probes, not yet finished; directed for ``look_ahead``; spread between epochs.

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
    """The affinity of a job's targets, ``values[helper, affected]``, from one joint run of that job.

    Parameters
    ----------
    dataset, split, job, device: as for ``fit``; ``job.targets`` are all the targets to compare.
    measure: ``gradient``, cosines of the targets' gradients; ``look_ahead`` (TAG, arXiv:2109.04617), what a step on
        one target does to the loss of another, relative to a step of the affected target's own; or ``projected``, the
        gain of each pair over its single targets as estimated by ``projected_gradients`` (arXiv:2409.06091).
    every: see ``AffinityHook``; not for ``projected``, which looks at the trained network.

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
    """Several measures of ``gradient_affinity`` from the same joint run."""
    for measure in measures:
        if measure not in MEASURES:
            raise ConfigError(
                f"affinity measured in training: unknown '{measure}': {did_you_mean(measure, MEASURES)}"
            )
    hooks = {measure: AffinityHook(measure, every) for measure in measures if measure in _PROBES}
    network = fit(dataset, split, job, device=device, hooks=list(hooks.values())).network
    affinities = {measure: hook.affinity() for measure, hook in hooks.items()}
    if "projected" in measures:
        affinities["projected"] = projected_gradients(network, dataset, split).affinity()
    return {measure: JOINT_AFFINITIES[measure].finish(affinities[measure]) for measure in measures}


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
    draw = np.random.default_rng(seed)
    parts = [draw.permutation(part)[:most_rows] for part in (split.train, split.validation)]
    rows = np.concatenate(parts)
    rows_on_device = torch.as_tensor(rows, device=device)

    def outputs_of(i: int) -> Tensor:
        return network(*data.batch(rows_on_device[i : i + 1]))[0]

    training = network.training
    network.eval()
    features = network.features(*data.batch(rows_on_device[:1]))
    outputs, gradients = project_gradients(
        outputs_of, len(rows), _parameters_behind(features, network), dim, seed
    )
    network.train(training)
    values = np.where(np.isnan(table.values), np.nan, labels.values.double().cpu().numpy())[rows]
    train = np.arange(len(rows)) < len(parts[0])
    return ProjectedGradients(
        table.names, tuple(s.kind for s in table.specs), outputs, gradients, values, train
    )


def network_features(
    network: nn.Module, dataset: Dataset, rows: np.ndarray, *, batch_size: int = 64
) -> np.ndarray:
    """Features ``[rows, F]`` of a MultiTaskNetwork, for ``taskgroup.affinity.transfer_matrix``."""
    device = next(network.parameters()).device
    data = prepare_rows(dataset, network.view, device)
    training = network.training
    network.eval()
    with torch.no_grad():
        parts = torch.as_tensor(rows, device=device).split(batch_size)
        features = torch.cat([network.features(*data.batch(part)).float() for part in parts])
    network.train(training)
    return features.cpu().numpy()


def _probe_look_ahead(context: HookContext, step: float) -> Tensor:
    """Look-ahead affinities of the batch in hand, all losses computed with the same dropout masks."""
    network = context.network
    names = _names_of(network, context.shared)
    seed = context.step

    def losses_at(moved: Sequence[Tensor]) -> Tensor:
        torch.manual_seed(seed)
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        state = dict(zip(names, moved, strict=True)) | buffers
        outputs = functional_call(network, state, (context.rows, context.lattice))
        return context.target_losses(outputs, context.labels, context.present)

    with torch.random.fork_rng():
        losses = losses_at(context.shared)
        gradients = task_gradients(losses, context.shared)
        return look_ahead(losses.detach(), gradients, context.shared, losses_at, step)


def _probe_cosines(context: HookContext, step: float) -> Tensor:
    return cosines(gramian(context.losses, context.shared))


_PROBES = {"gradient": _probe_cosines, "look_ahead": _probe_look_ahead}


def _parameters_behind(features: Tensor, network: nn.Module) -> list[nn.Parameter]:
    """The parameters that all targets share: those the features depend on."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    reached = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    return [
        parameter for parameter, slope in zip(parameters, reached, strict=True) if slope is not None
    ]


def _names_of(network: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str]:
    """The names of some of a network's parameters, in their order."""
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return [name_of[id(parameter)] for parameter in parameters]
