"""Pre-training: what all targets share first learns to tell the composition from the density.

The statistics of the elements (``taskgroup.datasets.composition``) cost nothing to know, and every row has them, with a
label of the group or without. They are learnt, not given: a network sees the density alone, now and later. Before that
a backbone learns its own lessons (``Backbone.lessons``): networks on peaks learn the elements at the peaks.

Groups of equal hyper-parameters, seed and rows begin with the same weights, which are made once per process.
"""

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taskgroup.datasets import Dataset, Split, Target, TargetTable
from taskgroup.datasets.composition import composition_names, composition_statistics
from taskgroup.errors import TrainingFailed
from taskgroup.models import Lesson
from taskgroup.training.lessons import learn_lesson
from taskgroup.training.loop import TrainingLoop
from taskgroup.training.result import GroupJob, canonical_json

State = dict[str, Tensor]

# The groups of a trial are trained one after the other or in step by one process, with one recipe and other targets:
# they all ask for the same weights. These belong to the process because nothing else outlives a run. The newest are
# last, and the oldest are dropped.
_MOST_KEPT = 32
_trunks: OrderedDict[str, State] = OrderedDict()
_lessons: OrderedDict[str, State] = OrderedDict()


def composition_targets(dataset: Dataset, split: Split) -> TargetTable:
    """Return statistics of the elements of every row, without those in which the training rows do not differ.

    Raises InputError: a row whose formula is not one.
    """
    values = composition_statistics(dataset.formulas)
    columns = []
    specs = []
    for name, column in zip(composition_names(), values.T, strict=True):
        training_values = column[split.train]
        known = training_values[~np.isnan(training_values)]
        if len(np.unique(known)) > 1:
            specs.append(Target(f"composition-{name}"))
            columns.append(column)
    kept = np.stack(columns, axis=1) if columns else values[:, :0]
    return TargetTable(tuple(specs), dataset.ids, kept)


def pretrained_trunk(dataset: Dataset, split: Split, job: GroupJob, device: torch.device) -> State:
    """Return weights of a job's trunk after ``pretrain`` epochs on the composition of all training rows, by its recipe.

    Empty where these rows have one composition: there is nothing to learn.

    Raises TrainingFailed as ``fit_epochs`` does; InputError: see ``composition_targets``.
    """
    changes = {
        "epochs": job.training.pretrain,
        "pretrain": 0,
        "patience": 0,
        "ema": 0.0,
        "balance": "mean",
    }
    training = job.training.model_copy(update=changes)
    key = _key(
        dataset.inputs_hash,
        dataset.formulas,
        dataset.atoms_hash,
        split.id,
        job.model.model_dump(mode="json"),
        training.model_dump(mode="json"),
        job.seed,
        str(device),
    )
    if key not in _trunks:
        table = composition_targets(dataset, split)
        learnt: State = {}
        if table.names:
            own_job = replace(job, targets=table.names, training=training)
            run = TrainingLoop(replace(dataset, targets=table), split, own_job, device, ())
            _learn_lessons(run, dataset, split)
            learnt = _trained(run)
        _keep(_trunks, key, learnt)
    _trunks.move_to_end(key)
    return _trunks[key]


def _learn_lessons(run: TrainingLoop, dataset: Dataset, split: Split) -> None:
    """Teach a backbone its lessons, each once for all networks that begin it alike, however wide they are."""
    for lesson in run.network.trunk.backbone.lessons():
        key = _key(
            lesson.name,
            dataset.inputs_hash,
            dataset.atoms_hash,
            split.id,
            run.network.view.key,
            run.job.seed,
            str(run.device),
            _weights_hash(lesson.pupils),
        )
        if key not in _lessons:
            _learn(lesson, run, dataset, split)
            _keep(_lessons, key, _weights(lesson.pupils))
        _lessons.move_to_end(key)
        lesson.pupils.load_state_dict(_lessons[key])


def _learn(lesson: Lesson, run: TrainingLoop, dataset: Dataset, split: Split) -> None:
    rows, _ = run.data.batch(torch.as_tensor(split.train, device=run.device))
    with run.isolation.random:
        inputs, labels = lesson.examples(dataset, split.train, rows)
        learn_lesson(lesson, inputs, labels, torch.Generator().manual_seed(run.job.seed))


def _trained(run: TrainingLoop) -> State:
    try:
        while not run.is_over:
            run.epoch()
    except TrainingFailed as error:
        raise TrainingFailed(
            f"pre-training on the composition: {error.fail_kind}", error.fail_kind
        ) from error
    return _weights(run.network.trunk)


def _keep(kept: OrderedDict[str, State], key: str, state: State) -> None:
    """Add a state and drop the one that was used longest ago if there are too many."""
    kept[key] = state
    if len(kept) > _MOST_KEPT:
        kept.popitem(last=False)


def _key(*content: Any) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _weights_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _weights(module: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
