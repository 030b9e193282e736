"""Pre-training on the composition: what it looks at, that groups share it, and that it helps (elements and all)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Element

from taskgroup.datasets import Dataset, Target, TargetTable, load_dataset
from taskgroup.models import ModelConfig
from taskgroup.training import Checkpoint, GroupJob, Hook, TrainConfig, fit, fit_epochs, pretrain
from taskgroup.training.pretrain import composition_targets, pretrained_trunk
from tests.training.conftest import SPLIT, make_split

ELEMENTS = ("Li", "Na", "K", "Mg", "Ca", "Al", "Si", "Ti", "Fe", "Cu", "Zn", "Ag")
CPU = torch.device("cpu")
_BY_SYSTEM = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0}


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    for kept in ("_trunks", "_lessons"):
        monkeypatch.setattr(pretrain, kept, type(getattr(pretrain, kept))())


@pytest.fixture(scope="module")
def elements():
    """One atom a cell: the element decides how wide its density is."""
    random, grid, rows = np.random.default_rng(0), 8, 96
    symbols = [ELEMENTS[i] for i in random.integers(len(ELEMENTS), size=rows)]
    edge = random.uniform(3, 6, rows)
    mass = np.array([float(Element(symbol).atomic_mass) for symbol in symbols])
    x = (np.arange(grid) + 0.5) / grid - 0.5
    r2 = x[:, None, None] ** 2 + x[:, None] ** 2 + x**2
    shape = np.exp(-r2 / (2 * (0.1 + mass / 500)[:, None, None, None] ** 2))
    density = (
        shape / shape.sum((1, 2, 3), keepdims=True) * grid**3 * (4 / edge**3)[:, None, None, None]
    )
    specs = (Target("mass"), Target("edge"), Target("other"))
    table = TargetTable(
        specs, [f"row{i}" for i in range(rows)], np.stack([mass, edge, edge**2], axis=1)
    )
    cells = edge[:, None, None] * np.eye(3)
    return Dataset.from_arrays(
        "elements", table.ids, table, density[:, None], cells, symbols, symbols
    )


def _job(dataset, targets, seed=0, **training):
    settings = {
        "epochs": 4,
        "pretrain": 3,
        "batch_size": 16,
        "lr": 0.01,
        "precision": "float32",
    } | training
    model = ModelConfig(backbone="descriptors", width=4, head_width=8, features=16)
    return GroupJob(targets, model, TrainConfig(**settings), seed, "elements", dataset.hash, SPLIT)


class _Begin(Hook):
    def on_start(self, context):
        self.trunk = {name: t.clone() for name, t in context.network.trunk.state_dict().items()}


def _begin(dataset, job):
    hook = _Begin()
    next(fit_epochs(dataset, make_split(dataset), job, hooks=[hook]))
    return hook.trunk


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_groups_begin_with_the_same_weights_which_are_made_once(elements, monkeypatch):
    runs, inner = [], pretrain._trained
    monkeypatch.setattr(pretrain, "_trained", lambda run: runs.append(run) or inner(run))
    mass, rest = (
        _begin(elements, _job(elements, targets)) for targets in (("mass",), ("edge", "other"))
    )
    assert _equal(mass, rest)
    assert len(runs) == 1
    assert len(runs[0].reports) == 3
    assert not _equal(mass, _begin(elements, _job(elements, ("mass",), seed=1)))
    assert not _equal(mass, _begin(elements, _job(elements, ("mass",), lr=0.02)))
    assert not _equal(mass, _begin(elements, _job(elements, ("mass",), pretrain=0)))
    assert len(runs) == 3


def test_labels_and_what_lies_outside_of_training_are_not_looked_at(elements):
    split, job = make_split(elements), _job(elements, ("edge",))
    found = pretrained_trunk(elements, split, job, CPU)
    formulas = np.array(elements.formulas)
    outside = np.concatenate([split.validation, split.test])
    formulas[outside] = np.roll(formulas[outside], 1)
    values = np.random.default_rng(1).permutation(elements.targets.values)
    other = replace(
        elements,
        formulas=tuple(map(str, formulas)),
        targets=TargetTable(elements.targets.specs, elements.ids, values),
    )
    pretrain._trunks.clear()
    assert _equal(found, pretrained_trunk(other, split, job, CPU))
    formulas[split.train] = np.roll(formulas[split.train], 1)
    assert not _equal(
        found,
        pretrained_trunk(replace(other, formulas=tuple(map(str, formulas))), split, job, CPU),
    )


def test_the_average_of_weights_begins_there_too(elements):
    job = _job(elements, ("edge",), epochs=1, ema=0.999, lr=1e-9)
    found = fit(elements, make_split(elements), job).network.trunk.state_dict()
    learnt = pretrained_trunk(elements, make_split(elements), job, CPU)
    weights = [name for name in learnt if name.endswith("weight")]
    assert weights
    assert all(torch.allclose(found[name], learnt[name], atol=1e-5) for name in weights)


def test_crystals_of_one_composition_train_as_without(elements):
    alike = replace(elements, formulas=("Fe",) * len(elements))
    assert composition_targets(alike, make_split(alike)).names == ()
    with_it, without = (
        fit(alike, make_split(alike), _job(alike, ("edge",), pretrain=n)) for n in (3, 0)
    )
    assert np.array_equal(with_it.predictions, without.predictions)


def test_a_resumed_fit_does_not_learn_it_again(elements, tmp_path, monkeypatch):
    split, job, path = (
        make_split(elements),
        _job(elements, ("mass", "edge")),
        tmp_path / "fit.safetensors",
    )
    whole = fit(elements, split, job)
    epochs = fit_epochs(elements, split, job, checkpoint=Checkpoint(path, seconds=0))
    next(epochs), next(epochs)
    epochs.close()
    monkeypatch.setattr(pretrain, "_trunks", {})
    monkeypatch.setattr(pretrain, "_trained", lambda run: pytest.fail("learnt again"))
    resumed = fit(elements, split, job, checkpoint=path)
    assert np.array_equal(resumed.predictions, whole.predictions)


def test_formation_energy_gains_from_it_on_real_crystals():
    data = load_dataset("crystals").with_targets(["formation_energy"])
    model, skills = ModelConfig(backbone="peaks"), {}
    for epochs in (0, 10):
        training = TrainConfig(
            epochs=60, pretrain=epochs, lr=0.003, batch_size=64, weight_decay=0.05
        )
        for fold in (2, 3):
            job = GroupJob(
                data.targets.names,
                model,
                training,
                0,
                "crystals",
                data.hash,
                _BY_SYSTEM | {"validation_fold": fold},
            )
            skills[epochs, fold] = fit(data, data.splits().split(0, fold), job).result.skills[
                "formation_energy"
            ]
    gains = [skills[10, fold] - skills[0, fold] for fold in (2, 3)]
    assert min(gains) > 0
    assert np.mean(gains) > 0.02
