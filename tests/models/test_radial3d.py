"""Radial3D: its rules, and what no description of a crystal changes."""

from taskgroup.models.testing import BackboneConformance, ViewConformance
from taskgroup.models.views.scale_space import ScaleSpaceView


class TestRadial3D(BackboneConformance):
    name = "radial3d"
    settings = {"width": 4, "grid": 8, "reader": 8, "words": 4, "heads": 2}  # noqa: RUF012 - replaced whole


class TestRadial3DWithoutBlocks(BackboneConformance):
    name = "radial3d"
    settings = TestRadial3D.settings | {"blocks": 0, "stride": 1, "sigmas": (0.0, 0.5)}


class TestRadial3DOfGaussians(BackboneConformance):
    name = "radial3d"
    settings = TestRadial3D.settings | {"blocks": 2, "kernels": "gaussians"}


class TestScaleSpaceView(ViewConformance):
    view = ScaleSpaceView
    settings = {"grid": 8, "backbone": {"name": "radial3d", "sigmas": (0.0, 0.4)}}  # noqa: RUF012 - replaced whole
