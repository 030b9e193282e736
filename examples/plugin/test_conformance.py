"""The plug-ins follow the rules of taskgroup."""

import numpy as np
import pytest
from taskgroup_example.balancer import LargestLoss
from taskgroup_example.clusterer import StrongerThanMean
from taskgroup_example.measure import sign_agreement
from taskgroup_example.reader import PlainTextReader

from taskgroup.testing import (
    BackboneConformance,
    BalancerConformance,
    ClustererConformance,
    FileReaderConformance,
    MeasureConformance,
)


class TestReader(FileReaderConformance):
    reader = PlainTextReader()

    @pytest.fixture
    def example(self, tmp_path):
        values = np.full((4, 4, 4), 8 / 27)
        numbers = "\n".join(f"{value:.12f}" for value in values.ravel())
        path = tmp_path / "example.rho.txt"
        path.write_text(
            f"C 0 0 0; C 0.25 0.25 0.25\n3 0 0 0 3 0 0 0 3\n4 4 4\n{numbers}\n", encoding="ascii"
        )
        return path, 8.0


class TestMeasure(MeasureConformance):
    measure = staticmethod(sign_agreement)


class TestClusterer(ClustererConformance):
    clusterer = StrongerThanMean


class TestBackbone(BackboneConformance):
    name = "radial_mlp"


class TestBalancer(BalancerConformance):
    def make(self, n_targets):
        return LargestLoss(n_targets)
