"""A trained radial3d gives a crystal one answer, however it is described."""

from pathlib import Path

import numpy as np
import pytest
import torch

import taskgroup.datasets
from taskgroup.datasets import load_dataset
from taskgroup.densities import equivalent_descriptions, read_density
from taskgroup.densities.standard_form import standard_form
from taskgroup.models import ModelConfig
from taskgroup.models.views import CrystalBatch
from taskgroup.training import GroupJob, TrainConfig, fit

CHGCARS = sorted((Path(taskgroup.datasets.__file__).parent / "data/crystals/chgcar").iterdir())
TARGETS = ("density", "bulk_modulus")
# In units of a target's standard deviation.
LARGEST_CHANGE = 0.02


@pytest.fixture(scope="module")
def trained():
    """A network trained for a few epochs on 60 crystals."""
    whole = load_dataset("crystals").with_targets(TARGETS)
    data = whole.subset(np.arange(0, len(whole), 10))
    split = {"by": "chemical_system", "folds": 4, "seed": 0, "test_fold": 0, "validation_fold": 1}
    model = ModelConfig(backbone={"name": "radial3d", "stride": 1, "reader": 16}, grid=8)
    job = GroupJob(TARGETS, model, TrainConfig(epochs=4), 0, data.name, data.hash, split)
    return fit(data, data.splits(folds=4).split(test_fold=0, validation_fold=1), job).network


def _outputs(network, densities):
    """Return standardised outputs [rows, T] of densities in standard form."""
    outputs = []
    for density in densities:
        form, _ = standard_form(density, None, spacing=0.2)
        crystals = CrystalBatch.of(form.values[None], form.lattice[None])
        with torch.no_grad():
            rows = network.view.prepare(crystals)
            outputs.append(network(rows, crystals.lattice))
    return torch.cat(outputs)


@pytest.mark.parametrize("kinds", [["supercell"], ["basis"], ["origin"], ["order"], ["rotation"]])
def test_another_description_hardly_changes_a_trained_network(trained, kinds):
    random = np.random.default_rng(0)
    given = [read_density(path) for path in CHGCARS[:2]]
    described = [equivalent_descriptions(density, random, kinds) for density in given]
    changes = _outputs(trained, described) - _outputs(trained, given)
    assert changes.abs().max() < LARGEST_CHANGE
