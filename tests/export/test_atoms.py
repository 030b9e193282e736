"""Bundles of networks that are given the atoms: what they predict, store and refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.errors import ConfigError
from taskgroup.export import Bundle, choose_inputs, load_bundle, save_bundle
from taskgroup.models import ModelConfig, MultiTaskNetwork


@pytest.fixture
def known(bundle):
    """A bundle whose networks know the atoms."""
    config = ModelConfig(
        backbone="peaks", width=2, descriptors=False, atoms="structure", features=8, head_width=4
    )
    members = {}
    for group, networks in bundle.members.items():
        torch.manual_seed(0)
        network = networks[0]
        members[group] = [MultiTaskNetwork(config, network.targets, network.scaler).eval()]
        # an embedding that has learnt something
        torch.nn.init.normal_(members[group][0].trunk.backbone.element.embedding.weight)
    return Bundle(bundle.spec, members)


@pytest.fixture
def mixed(dataset):
    """A dataset of crystals of silicon and of rock salt."""
    species = [("Si",), ("Na", "Cl")] * (len(dataset) // 2)
    frac_coords = [np.arange(3.0 * len(atoms)).reshape(-1, 3) / 7 for atoms in species]
    return replace(dataset, species=species, frac_coords=frac_coords)


def test_a_prediction_takes_the_atoms_of_the_row(known, mixed) -> None:
    assert known.uses_atoms
    frame = known.predict(mixed)
    others = replace(mixed, species=[("Ge",), ("K", "Cl")] * (len(mixed) // 2))
    changed = known.predict(others)
    assert (frame["energy"] != changed["energy"]).all()
    # rows are predicted alike whatever else is in their batch
    one_by_one = known.predict(mixed, batch_size=1)
    np.testing.assert_allclose(one_by_one["energy"], frame["energy"], rtol=1e-4)


def test_a_dataset_without_atoms_is_refused(known, dataset) -> None:
    bare = replace(
        dataset, species=[()] * len(dataset), frac_coords=[np.empty((0, 3))] * len(dataset)
    )
    with pytest.raises(
        ConfigError, match=r"model\.atoms: .* those of every crystal, found one without"
    ):
        known.predict(bare)


def test_reference_inputs_keep_their_atoms(known, mixed, tmp_path) -> None:
    folder = save_bundle(tmp_path / "b", known.spec, known.members, choose_inputs(mixed, 1))
    loaded = load_bundle(folder)
    first = choose_inputs(mixed, 1).atoms.numbers
    assert torch.equal(loaded.reference.atoms.numbers, first)
    np.testing.assert_allclose(loaded.predict(mixed)["energy"], known.predict(mixed)["energy"])
