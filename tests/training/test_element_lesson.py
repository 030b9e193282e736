"""The elements at the peaks: told by the atoms of a row, and learnt from the density for crystals not seen before."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Element

from taskgroup.datasets import load_dataset
from taskgroup.datasets.composition import PROPERTIES
from taskgroup.models import ModelConfig
from taskgroup.models.backbones.element_lesson import peak_elements
from taskgroup.models.multitask import make_view
from taskgroup.training import GroupJob, TrainConfig, pretrain
from taskgroup.training.device_rows import prepare_rows
from taskgroup.training.lessons import learn_lesson
from taskgroup.training.loop import TrainingLoop
from taskgroup.training.pretrain import pretrained_trunk

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    for kept in ("_trunks", "_lessons"):
        monkeypatch.setattr(pretrain, kept, type(getattr(pretrain, kept))())


@pytest.fixture(scope="module")
def crystals():
    whole = load_dataset("crystals").with_targets(["density"])
    return whole.subset(np.arange(0, len(whole), 4))


def _job(dataset, **training):
    model = ModelConfig(
        backbone="peaks", width=2, features=8, head_width=4, descriptors=False, widths=()
    )
    settings = TrainConfig(**{"epochs": 1, "pretrain": 1, "precision": "float32"} | training)
    keys = {"by": "chemical_system", "folds": 4, "seed": 0, "test_fold": 0, "validation_fold": 1}
    return GroupJob(("density",), model, settings, 0, dataset.name, dataset.hash, keys)


def _elements(dataset):
    view = make_view(ModelConfig(backbone="peaks", descriptors=False, widths=()), 1)
    prepared = prepare_rows(dataset, view, CPU).rows
    return peak_elements(dataset, np.arange(len(dataset)), prepared)


def _split(dataset):
    return dataset.splits(folds=4).split(test_fold=0, validation_fold=1)


def test_nearly_every_atom_of_the_crystals_is_a_peak_and_nearly_every_peak_an_atom(crystals):
    found = _elements(crystals)
    numbers = [sorted(row[~np.isnan(row[:, 0]), 0]) for row in found]
    true = [sorted(Element(symbol).Z for symbol in species) for species in crystals.species]
    assert np.mean([a == b for a, b in zip(numbers, true, strict=True)]) > 0.97
    view = TrainingLoop(crystals, _split(crystals), _job(crystals), CPU, ()).network.view
    peaks = prepare_rows(crystals, view, CPU).rows["peaks"]
    named = (~np.isnan(found[..., 0])).sum()
    assert 0.93 * (peaks[:, :, 0] > 0).sum() < named <= (peaks[:, :, 0] > 0).sum()
    assert (peaks[:, :, 0].numpy() > 0)[~np.isnan(found[..., 0])].all()


def test_elements_are_recognised_in_chemical_systems_not_seen_before(crystals):
    split = _split(crystals)
    run = TrainingLoop(crystals, split, _job(crystals), CPU, ())
    rows = run.data.rows
    (lesson,) = run.network.trunk.backbone.lessons()
    examples = lesson.examples(crystals, split.train, rows[split.train])
    assert learn_lesson(lesson, *examples, torch.Generator().manual_seed(0))
    outside = np.concatenate([split.validation, split.test])
    inputs, properties = lesson.examples(crystals, outside, rows[outside])
    run.network.eval()
    with torch.no_grad():
        told = lesson.predict(inputs).numpy()
    mass = PROPERTIES.index("atomic_mass")
    true = properties[:, mass]
    assert (
        np.corrcoef(told[:, mass], true)[0, 1] ** 2 > 0.85
    )  # of a quarter of the crystals; some elements are new


def test_only_atoms_of_training_rows_are_looked_at(crystals):
    split, job = _split(crystals), _job(crystals)
    found = pretrained_trunk(crystals, split, job, CPU)

    def swapped(rows):
        species = list(crystals.species)
        for row in rows:
            species[row] = ("Fe",) * len(species[row])
        return replace(crystals, species=tuple(species))

    pretrain._trunks.clear()
    other = pretrained_trunk(
        swapped(np.concatenate([split.validation, split.test])), split, job, CPU
    )
    assert all(torch.equal(found[name], other[name]) for name in found)
    other = pretrained_trunk(swapped(split.train[:5]), split, job, CPU)
    assert not all(torch.equal(found[name], other[name]) for name in found)


def test_without_atoms_there_is_nothing_to_learn(crystals):
    bare = replace(
        crystals, species=((),) * len(crystals), frac_coords=(np.zeros((0, 3)),) * len(crystals)
    )
    properties = _elements(bare)[:8]
    assert np.isnan(properties).all()
    run = TrainingLoop(bare, _split(bare), _job(bare), CPU, ())
    before = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    (lesson,) = run.network.trunk.backbone.lessons()
    examples = lesson.examples(bare, np.arange(8), run.data.rows[:8])
    assert not learn_lesson(lesson, *examples, torch.Generator().manual_seed(0))
    assert all(
        torch.equal(before[name], tensor) for name, tensor in run.network.state_dict().items()
    )


def test_an_element_without_a_known_property_teaches_the_others(crystals):
    run = TrainingLoop(crystals, _split(crystals), _job(crystals), CPU, ())
    (lesson,) = run.network.trunk.backbone.lessons()
    inputs, properties = lesson.examples(crystals, np.arange(len(crystals)), run.data.rows)
    # as for neon
    properties[::2, PROPERTIES.index("X")] = np.nan
    assert learn_lesson(lesson, inputs, properties, torch.Generator().manual_seed(0))
    assert all(tensor.isfinite().all() for tensor in run.network.state_dict().values())


def test_the_lesson_is_learnt_once_whatever_comes_after(crystals, monkeypatch):
    lessons, inner = [], pretrain.learn_lesson
    monkeypatch.setattr(pretrain, "learn_lesson", lambda *given: lessons.append(1) or inner(*given))
    split, job = _split(crystals), _job(crystals)

    def element(changed):
        monkeypatch.setattr(pretrain, "_trunks", type(pretrain._trunks)())
        learnt = pretrain.pretrained_trunk(crystals, split, changed, CPU)
        return {
            name: tensor
            for name, tensor in learnt.items()
            if name.startswith(("backbone.element", "backbone.scale"))
        }

    wide = GroupJob.from_dict(job.to_dict() | {"model": job.to_dict()["model"] | {"width": 4}})
    found = element(wide)
    assert len(lessons) == 1
    again = element(wide)
    monkeypatch.setattr(pretrain, "_lessons", type(pretrain._lessons)())
    alone = element(wide)
    assert len(lessons) == 2
    for other in (again, alone):
        assert all(torch.equal(other[name], tensor) for name, tensor in found.items())
    element(job)
    assert len(lessons) == 2
    for another in ({"seed": 1}, {"model": wide.to_dict()["model"] | {"descriptors": True}}):
        element(GroupJob.from_dict(wide.to_dict() | another))
    assert len(lessons) == 4
