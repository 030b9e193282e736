"""What a bundle asks of a density."""

import numpy as np
import pytest

from taskgroup.datasets import Target, TargetScaler
from taskgroup.grouping import Group
from taskgroup.models import ModelConfig, MultiTaskNetwork
from taskgroup.study.refit import _channels


@pytest.mark.parametrize(("seen", "channels"), [((False, False), 1), ((False, True), 2)])
def test_a_bundle_asks_for_the_channels_that_any_of_its_networks_looks_at(seen, channels):
    specs = (Target("moment"),)
    scaler = TargetScaler.fit(specs, np.array([[0.0], [1.0]]))
    networks = {
        Group(("moment",)): [
            MultiTaskNetwork(
                ModelConfig(backbone="descriptors", magnetisation=each), specs, scaler, 2
            )
            for each in seen
        ]
    }
    assert _channels(networks) == channels
