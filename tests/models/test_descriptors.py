"""Descriptors for forests."""

import numpy as np
import pytest
import torch

from taskgroup.datasets import load_dataset
from taskgroup.models import ModelConfig, descriptors, make_view
from taskgroup.models.backbones.descriptors import DescriptorNetwork

from .conftest import make_cells, make_densities


def test_descriptors_are_invariant_numbers():
    density, cells = make_densities(3, n=8).numpy(), make_cells(3).numpy()
    found = descriptors(density, cells)
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    moved = np.roll(density, (1, 3, 2), axis=(2, 3, 4)).transpose(0, 1, 3, 4, 2)
    np.testing.assert_allclose(descriptors(moved, cells[:, [1, 2, 0]]), found, rtol=1e-3, atol=1e-3)


def test_batches_do_not_matter_and_settings_do():
    density, cells = make_densities(3, n=8).numpy(), make_cells(3).numpy()
    np.testing.assert_allclose(
        descriptors(density, cells, batch_size=1), descriptors(density, cells), rtol=1e-4, atol=1e-5
    )
    fewer = descriptors(
        density, cells, ModelConfig(backbone="descriptors", widths=(), fields=("density",))
    )
    assert fewer.shape == (3, 28 + 4 + 1)


@pytest.mark.filterwarnings("default")
def test_a_forest_on_descriptors_knows_the_bulk_modulus_of_unseen_chemical_systems():
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.metrics import r2_score

    data = load_dataset("crystals")
    split = data.splits().split()
    batches = [
        (rows, descriptors(densities, data.lattices[rows]))
        for rows, densities in data.density_batches()
    ]
    x = np.empty((len(data), batches[0][1].shape[1]))
    for rows, numbers in batches:
        x[rows] = numbers
    y = np.log(data.targets.column("bulk_modulus"))
    forest = ExtraTreesRegressor(100, random_state=0).fit(x[split.train], y[split.train])
    assert r2_score(y[split.validation], forest.predict(x[split.validation])) > 0.8


def test_running_statistics_are_means_over_all_batches():
    config = ModelConfig(backbone="descriptors", fields=("density",), widths=())
    view = make_view(config, 1)
    ours = DescriptorNetwork(config, view).standardise
    plain = torch.nn.BatchNorm1d(view.n_statistics, affine=False, momentum=None)
    for seed in range(3):
        x = 3 * torch.randn(7, view.n_statistics, generator=torch.Generator().manual_seed(seed)) + 1
        torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))
