"""Pre-training: what all targets share first learns to tell the composition from the density.

The statistics of the elements (``taskgroup.datasets.composition``) cost nothing to know and every row has them, with a
label of the group or without. They are learnt, not shown: a network sees the density alone, then as before. Networks on
peaks learn the elements at the peaks before that, see ``elements``.

Groups of equal hyper-parameters, seed and rows begin with the same weights, which are made once a process.
"""

import hashlib
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from taskgroup.datasets import Dataset, Split, Target, TargetTable
from taskgroup.datasets.composition import composition_names, composition_statistics
from taskgroup.errors import TrainingFailed
from taskgroup.models.backbones.peak_network import PeakNetwork
from taskgroup.training.element_lesson import learn_elements, peak_elements
from taskgroup.training.loop import TrainingLoop
from taskgroup.training.result import GroupJob, canonical_json

_KEPT = 32  # backbones a process keeps
_cache: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
_lessons: OrderedDict[str, dict[str, Tensor]] = OrderedDict()  # elements, by how they were begun


def composition_targets(dataset: Dataset, split: Split) -> TargetTable:
    """The statistics of every row's elements; those that training rows do not differ in are left out.

    Raises InputError: a row whose formula is not one.
    """
    values = composition_statistics(dataset.formulas)
    differ = np.array(
        [len(np.unique(column[~np.isnan(column)])) > 1 for column in values[split.train].T]
    )
    names = [name for name, keep in zip(composition_names(), differ, strict=True) if keep]
    return TargetTable(
        tuple(Target(f"composition-{name}") for name in names), dataset.ids, values[:, differ]
    )


def pretrained_backbone(
    dataset: Dataset, split: Split, job: GroupJob, device: torch.device
) -> dict[str, Tensor]:
    """Weights of a job's backbone after ``pretrain`` epochs on the composition of all training rows, by its recipe.

    None at all where these rows have one composition: there is nothing to learn.

    Raises TrainingFailed as ``fit_epochs`` does; InputError: see ``composition_targets``.
    """
    training = job.training.model_copy(
        update={
            "epochs": job.training.pretrain,
            "pretrain": 0,
            "patience": 0,
            "ema": 0.0,
            "balance": "mean",
        }
    )
    settings = [
        job.model.model_dump(mode="json"),
        training.model_dump(mode="json"),
        job.seed,
        str(device),
    ]
    content = canonical_json(
        [dataset.inputs_hash, dataset.formulas, _atoms(dataset), split.id, *settings]
    )
    key = hashlib.sha256(content.encode()).hexdigest()
    if key not in _cache:
        table = composition_targets(dataset, split)
        if table.names:
            own = replace(job, targets=table.names, training=training)
            run = TrainingLoop(replace(dataset, targets=table), split, own, device, ())
            _learn_elements(run, dataset, split)
            _cache[key] = _trained(run)
        else:
            _cache[key] = {}
        if len(_cache) > _KEPT:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def _atoms(dataset: Dataset) -> str:
    """A hash of the atoms of all rows."""
    digest = hashlib.sha256()
    for species, sites in zip(dataset.species, dataset.frac_coords, strict=True):
        digest.update(" ".join(species).encode() + sites.tobytes())
    return digest.hexdigest()


def _learn_elements(run: TrainingLoop, dataset: Dataset, split: Split) -> None:
    """Teach a network on peaks its elements; once for all networks that begin this lesson alike, however wide."""
    network = run.network.backbone.net
    if not isinstance(network, PeakNetwork):
        return
    pupils = nn.ModuleDict({"element": network.element, "scale": network.scale})
    begin = hashlib.sha256()
    for tensor in pupils.state_dict().values():
        begin.update(tensor.cpu().numpy().tobytes())
    key = canonical_json(
        [
            dataset.inputs_hash,
            _atoms(dataset),
            split.id,
            run.network.view.key,
            run.job.seed,
            str(run.device),
        ]
    )
    key += begin.hexdigest()
    if key not in _lessons:
        rows, _ = run.data.batch(torch.as_tensor(split.train, device=run.device))
        with run.isolation.random:
            elements = peak_elements(dataset, split.train, rows)
            learn_elements(network, rows, elements, torch.Generator().manual_seed(run.job.seed))
        _lessons[key] = _weights(pupils)
        if len(_lessons) > _KEPT:
            _lessons.popitem(last=False)
    _lessons.move_to_end(key)
    pupils.load_state_dict(_lessons[key])


def _trained(run: TrainingLoop) -> dict[str, Tensor]:
    try:
        while not run.is_over:
            run.epoch()
    except TrainingFailed as error:
        raise TrainingFailed(
            f"pre-training on the composition: {error.fail_kind}", error.fail_kind
        ) from error
    return _weights(run.network.backbone)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
