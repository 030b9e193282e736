"""Networks that earlier versions wrote load and predict what they did."""

from pathlib import Path

import pytest
import torch

from taskgroup.export.network_file import read_network
from taskgroup.models import migrate_state
from taskgroup.models.testing import random_crystals

from .conftest import make_network

DATA = Path(__file__).parent / "data"
# Predictions of ``random_crystals(3, grid=8)`` by the version that wrote the files.
PREDICTIONS = {
    "msa3dcnn-0.2.0": [[1.542718, 0.4886403], [1.566085, 0.4878262], [1.555961, 0.4890304]],
    "descriptors-0.2.0": [[1.682442, 0.4622625], [1.670635, 0.469563], [1.67074, 0.4539185]],
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_network_of_an_earlier_version_predicts_what_it_did(name):
    network = read_network(DATA / f"{name}.safetensors")
    crystals = random_crystals(3, grid=8)
    expected = torch.tensor(PREDICTIONS[name])
    torch.testing.assert_close(network.predict(crystals), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet3d", "peaks"])
def test_names_of_today_stay_and_old_ones_become_those_of_today(backbone):
    state = make_network(backbone=backbone).state_dict()
    assert list(migrate_state(state)) == list(state)
    old = {}
    for name, tensor in state.items():
        in_trunk = name.replace("trunk.backbone.", "backbone.net.").replace("trunk.", "backbone.")
        old[in_trunk] = tensor
    assert list(migrate_state(old)) == list(state)
