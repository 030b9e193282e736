"""The whole network: units, heads, state, single rows, programs."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from taskgroup.errors import ConfigError
from taskgroup.models import CrystalBatch, MultiTaskNetwork
from taskgroup.models.lattice import N_LATTICE_FEATURES, lattice_features

from .conftest import TARGETS, make_cells, make_densities, make_network, train_a_little

VARIANTS = [
    {},
    {"backbone": "resnet3d", "pooling": "mean_max", "descriptors": False},
    {"backbone": "descriptors"},
    {"view": "cartesian", "pooling": "attention", "lattice_features": False},
    {"fields": ("density",), "widths": (), "scaling": "log"},
    {"backbone": "peaks"},
]
IDS = ["default", "resnet3d", "descriptors", "cartesian", "density only", "peaks"]


@pytest.mark.parametrize("settings", VARIANTS, ids=IDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_density_becomes_properties(settings, channels):
    density, lattice = make_densities(3, channels=channels), make_cells(3)
    network = make_network(channels, **settings)
    rows = network.view.prepare(CrystalBatch(density, lattice))
    assert network.features(rows, lattice).shape == (3, network.n_features)
    outputs = network(rows, lattice)
    assert outputs.shape == (3, 4)
    values = network.predict(CrystalBatch(density, lattice))
    torch.testing.assert_close(values, network.decode(outputs))
    assert torch.isfinite(values).all()
    assert (values[:, 0] > 0).all()
    assert ((values[:, 3] > 0) & (values[:, 3] < 1)).all()


def test_values_are_those_of_the_scaler_and_classes_are_probabilities():
    network = make_network()
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    values = network.decode(outputs).numpy()
    expected = network.scaler.decode(outputs.numpy())
    np.testing.assert_allclose(values[:, :3], expected[:, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values[:, 3], 1 / (1 + np.exp(-outputs[:, 3].numpy())), rtol=1e-5)


@pytest.mark.parametrize("settings", VARIANTS, ids=IDS)
def test_weights_and_description_rebuild_the_network(settings):
    density, lattice = make_densities(3), make_cells(3)
    network = train_a_little(make_network(**settings), density, lattice)
    description = json.loads(json.dumps(network.to_dict()))
    twin = MultiTaskNetwork.from_dict(description)
    twin.load_state_dict(load(save(network.state_dict())))
    torch.testing.assert_close(
        twin.predict(CrystalBatch(density, lattice)),
        network.predict(CrystalBatch(density, lattice)),
        rtol=0,
        atol=0,
    )
    assert twin.to_dict() == network.to_dict()


def test_a_description_with_settings_of_another_version_is_refused_in_one_line():
    description = make_network().to_dict()
    description["config"]["backbone"] = "msa4dcnn"
    with pytest.raises(
        ConfigError,
        match=r"^model\.backbone: .*unknown backbone 'msa4dcnn'; did you mean 'msa3dcnn'",
    ):
        MultiTaskNetwork.from_dict(description)


def test_predict_neither_trains_nor_forgets_to_train():
    density, lattice = make_densities(3), make_cells(3)
    network = make_network().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, second = (
        network.predict(CrystalBatch(density, lattice)),
        network.predict(CrystalBatch(density, lattice)),
    )
    assert network.training
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_prediction_does_not_depend_on_its_batch():
    density, lattice = make_densities(4), make_cells(4)
    network = train_a_little(make_network(), density, lattice)
    alone = torch.cat(
        [network.predict(CrystalBatch(density[i : i + 1], lattice[i : i + 1])) for i in range(4)]
    )
    torch.testing.assert_close(
        alone, network.predict(CrystalBatch(density, lattice)), rtol=1e-4, atol=1e-5
    )


def test_the_cell_counts_where_it_is_asked_for():
    density = make_densities(2)
    for asked in (True, False):
        settings = {"lattice_features": asked, "fields": ("density",), "widths": ()}
        network = train_a_little(make_network(**settings), density, make_cells(2))
        small, large = (
            network.predict(CrystalBatch(density, make_cells(2))),
            network.predict(CrystalBatch(density, 2 * make_cells(2))),
        )
        assert torch.allclose(small, large) != asked


def test_averages_over_symmetries_move_less_than_single_predictions():
    density, lattice = make_densities(4), make_cells(4)
    network = train_a_little(make_network(descriptors=False), density, lattice)
    moved = density.roll((2, 6, 10), (2, 3, 4))  # shifts that no stride divides

    def change(draws):
        return (
            (
                network.predict(CrystalBatch(moved, lattice), draws=draws)
                - network.predict(CrystalBatch(density, lattice), draws=draws)
            )
            .abs()
            .mean()
        )

    assert 0 < change(64) < 0.7 * change(0)
    assert torch.equal(
        network.predict(CrystalBatch(density, lattice), draws=4),
        network.predict(CrystalBatch(density, lattice), draws=4),
    )


def test_targets_share_the_backbone_and_nothing_else():
    density, lattice = make_densities(3), make_cells(3)
    network = make_network().train()
    outputs = network(network.view.prepare(CrystalBatch(density, lattice)), lattice)
    shared = list(network.trunk.parameters())
    gradients = torch.autograd.grad(
        outputs[:, 1].sum(), [*shared, network.heads.weight], retain_graph=True
    )
    assert (gradients[-1][[0, 2, 3]] == 0).all()
    assert gradients[-1][1].abs().max() > 0
    names = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert names == {"trunk", "heads"}


@pytest.mark.parametrize(
    "settings", [{"backbone": "descriptors"}, {"backbone": "peaks"}], ids=["descriptors", "peaks"]
)
def test_heads_see_the_numbers_of_the_cell_as_they_are(settings):
    density, lattice = make_densities(6), make_cells(6)
    network = make_network(**settings, lattice_features=True)
    network = train_a_little(network, density, lattice)
    with torch.no_grad():
        network.heads.weight.zero_()  # the perceptrons say nothing
        network.heads.straight.weight.zero_()
        network.heads.straight.weight[0, -N_LATTICE_FEATURES] = 1
        found = network(network.view.prepare(CrystalBatch(density, lattice)), lattice)[:, 0]
    number = lattice_features(lattice)[:, 0]
    slope = (found[1] - found[0]) / (number[1] - number[0])
    torch.testing.assert_close(found - found[0], slope * (number - number[0]), rtol=1e-3, atol=1e-4)
    assert slope > 0


def test_one_target_is_enough():
    network = make_network(targets=TARGETS[1:2])
    assert network.predict(CrystalBatch(make_densities(2), make_cells(2))).shape == (2, 1)


@pytest.mark.parametrize(
    "settings", [{}, {"view": "cartesian", "widths": ()}], ids=["fractional", "cartesian"]
)
def test_a_program_from_densities_gives_the_predictions_for_any_batch(settings):
    class Predict(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, density, lattice):
            return self.network.predict(CrystalBatch(density, lattice))

    density, lattice = make_densities(5, n=8), make_cells(5)
    network = train_a_little(make_network(**settings), density, lattice)
    batch = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own tracing
        program = torch.export.export(
            Predict(network).eval(),
            (density[:2], lattice[:2]),
            dynamic_shapes={"density": {0: batch}, "lattice": {0: batch}},
            strict=False,
        )
    found = program.module()(density, lattice)
    torch.testing.assert_close(
        found, network.predict(CrystalBatch(density, lattice)), rtol=1e-4, atol=1e-4
    )
