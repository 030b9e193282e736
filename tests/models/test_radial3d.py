"""Radial3D: its rules, closed forms of its layers, and descriptions of a crystal that change nothing."""

import math

import numpy as np
import pytest
import torch

from taskgroup.datasets import load_dataset
from taskgroup.errors import ConfigError
from taskgroup.models import ModelConfig, make_view
from taskgroup.models.backbones.radial3d import atoms_per_volume
from taskgroup.models.backbones.radial_layers import (
    RadialConv,
    RadialKernels,
    Whitening,
    wave_square,
    weighted_moments,
)
from taskgroup.models.backbones.voxel_lesson import ATOM_INTEGRAL, distances_to_atoms
from taskgroup.models.registry import BACKBONES
from taskgroup.models.testing import BackboneConformance, ViewConformance, random_crystals
from taskgroup.models.views import CrystalBatch, PreparedRows
from taskgroup.models.views.scale_space import ScaleSpaceView, scale_space

from .conftest import make_network, train_a_little

SMALL = {"width": 4, "grid": 8, "reader": 8, "words": 4, "heads": 2}
SIGMAS = (0.0, 0.4)


class TestRadial3D(BackboneConformance):
    name = "radial3d"
    settings = SMALL


class TestRadial3DWithoutBlocks(BackboneConformance):
    name = "radial3d"
    settings = SMALL | {"blocks": 0, "stride": 1, "sigmas": (0.0, 0.5)}


class TestRadial3DOfGaussians(BackboneConformance):
    name = "radial3d"
    settings = SMALL | {"blocks": 2, "kernels": "gaussians"}


class TestScaleSpaceView(ViewConformance):
    view = ScaleSpaceView
    settings = {"grid": 8, "backbone": {"name": "radial3d", "sigmas": SIGMAS}}  # noqa: RUF012 - replaced whole


def _gaussian_crystal(n, width, edge=5.0):
    """The density of one Gaussian at the origin of a cubic cell, by its Fourier series; one electron."""
    index = np.fft.fftfreq(n, 1 / n)
    square = index[:, None, None] ** 2 + index[:, None] ** 2 + index**2
    square = square * (2 * math.pi / edge) ** 2
    series = np.exp(-0.5 * width**2 * square) / edge**3
    values = np.fft.ifftn(series, norm="forward").real
    return torch.tensor(values[None, None]), edge * torch.eye(3, dtype=torch.float64)[None]


def test_fields_of_a_gaussian_are_those_of_its_formula():
    density, lattice = _gaussian_crystal(32, width=0.6)
    fields = scale_space(density, lattice, (0.0, 0.8), n=10)[0]
    for fields_of_width, width in ((fields[:4], 0.6), (fields[4:], 1.0)):
        peak = (2 * math.pi * width**2) ** -1.5
        log_density, slope, laplacian, anisotropy = fields_of_width[:, 1, 0, 0]
        distance = 0.5
        assert log_density == pytest.approx(math.log(peak) - distance**2 / (2 * width**2), abs=0.01)
        assert slope == pytest.approx(math.asinh(distance / width**2), rel=0.01)
        relative = distance**2 / width**4 - 3 / width**2
        assert laplacian == pytest.approx(math.asinh(relative), rel=0.01)
        # second derivatives are d^2 / width^4 along the radius beside an isotropic part
        assert anisotropy == pytest.approx(
            math.asinh(math.sqrt(2 / 3) * distance**2 / width**4), rel=0.02
        )


def test_a_finer_stored_grid_shows_the_same():
    view = make_view(ModelConfig(backbone="radial3d", grid=8, descriptors=False), 1)
    coarse, fine = (view.prepare(random_crystals(2, grid=n))["grid"] for n in (8, 20))
    torch.testing.assert_close(fine, coarse, rtol=1e-3, atol=1e-3)


def test_a_backbone_without_widths_has_no_scale_space():
    with pytest.raises(ConfigError, match="sigmas and stride, msa3dcnn has none"):
        ScaleSpaceView(ModelConfig(), 1)


def test_the_grid_is_a_multiple_of_the_stride():
    with pytest.raises(ValueError, match="divide grid"):
        ModelConfig(backbone={"name": "radial3d", "stride": 3}, grid=16)


def test_whitening_leaves_columns_uncorrelated():
    torch.manual_seed(0)
    hidden = torch.randn(500, 3)
    points = hidden @ torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 5.0]]) + 2
    whitening = Whitening(3)
    whitening.fix(points)
    whitened = whitening.train()(points)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(3), rtol=0.02, atol=0.02)
    torch.testing.assert_close(whitening.eval()(points), whitened)


def test_whitening_without_a_lesson_standardises_by_running_means():
    torch.manual_seed(0)
    points = torch.randn(400, 2) * torch.tensor([3.0, 0.5]) + 1
    whitening = Whitening(2)
    for part in points.split(100):
        whitening(part)
    whitened = whitening.eval()(points)
    torch.testing.assert_close(whitened.mean(0), torch.zeros(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(whitened.var(0), torch.ones(2), rtol=0.05, atol=0)


def test_a_gaussian_kernel_widens_a_gaussian():
    density, lattice = _gaussian_crystal(16, width=0.7)
    expected, _ = _gaussian_crystal(16, width=math.hypot(0.7, 0.9))
    kernels = RadialKernels((0.9,), ())
    convolution = RadialConv(1, 1).double()
    torch.nn.init.ones_(convolution.mix)
    multipliers = kernels.multipliers(wave_square(density, lattice).double())
    torch.testing.assert_close(convolution(density, multipliers), expected, rtol=1e-4, atol=1e-6)


def test_a_shell_brings_what_lies_at_its_radius():
    """A point source seen from its radius through a shell is larger than from elsewhere."""
    density, lattice = _gaussian_crystal(16, width=0.3, edge=8.0)
    kernels = RadialKernels((), (2.0,))
    convolution = RadialConv(1, 1).double()
    torch.nn.init.ones_(convolution.mix)
    multipliers = kernels.multipliers(wave_square(density, lattice).double())
    along_axis = convolution(density, multipliers)[0, 0, :9, 0, 0]
    # steps of 0.5 Å
    assert along_axis.argmax() == 4


def test_weighted_moments_of_equal_weights_are_mean_and_deviation():
    points = torch.randn(2, 50, 3)
    moments = weighted_moments(points, torch.full((2, 50, 1), 1 / 50))
    torch.testing.assert_close(moments[:, :3], points.mean(1))
    deviation = points.std(1, correction=0)
    torch.testing.assert_close(moments[:, 3:], deviation, rtol=1e-3, atol=1e-3)


def test_atoms_of_a_cell_are_counted_whole():
    lattice = 4 * torch.eye(3)[None]
    # 2.1 atoms as read
    presence = torch.full((1, 8, 1), 2.1 * ATOM_INTEGRAL / 64, requires_grad=True)
    found = atoms_per_volume(presence, lattice)
    torch.testing.assert_close(found, torch.tensor([[2 / 64]]))
    found.sum().backward()
    assert (presence.grad > 0).all()


def test_distances_go_to_the_nearest_image():
    lattice = 4 * np.eye(3)
    distances = distances_to_atoms(np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), lattice, 4)
    assert distances.shape == (64, 2)
    # the point at (3/4, 0, 0) is 1 Å from the image at (1, 0, 0)
    assert distances[48, 0] == pytest.approx(1.0)
    assert distances[0, 1] == pytest.approx(math.sqrt(12))


def test_the_lesson_labels_atoms_and_their_elements():
    data = load_dataset("crystals")
    settings = SMALL | {"sigmas": SIGMAS}
    view = make_view(ModelConfig(backbone="radial3d").updated(settings), data.n_channels)
    numbers = np.arange(3)
    prepared = []
    for number in numbers:
        crystal = CrystalBatch.of(data.densities([number]), data.lattices[[number]])
        prepared.append(view.prepare(crystal)["grid"])
    rows = PreparedRows.of(grid=torch.cat(prepared))
    (lesson,) = BACKBONES.find("radial3d")(view.config, view).lessons()
    inputs, labels = lesson.examples(data, numbers, rows)
    assert inputs.shape == (len(labels), view.n_fields)
    presence, properties = labels[:, 0], labels[:, 1:]
    is_atom = ~np.isnan(properties[:, 0])
    assert presence[is_atom].min() > presence[~is_atom].max()
    # the density's logarithm is high where atoms are
    assert inputs[is_atom, 0].mean() > inputs[~is_atom, 0].mean() + 1
    again, _ = lesson.examples(data, numbers, rows)
    assert torch.equal(again, inputs)


@pytest.fixture(scope="module")
def described():
    """A small network with filled running statistics, and smooth crystals."""
    crystals = random_crystals(6, grid=16)
    network = make_network(backbone="radial3d", **SMALL | {"grid": 16, "descriptors": False})
    return train_a_little(network, crystals.density, crystals.lattice), crystals


def test_order_and_sign_of_the_vectors_change_nothing(described):
    network, crystals = described
    here = network.predict(crystals)
    density, lattice = crystals.density, crystals.lattice
    turned = CrystalBatch(density.permute(0, 1, 4, 2, 3), lattice[:, [2, 0, 1]])
    torch.testing.assert_close(network.predict(turned), here, rtol=1e-3, atol=1e-4)
    # reversed about the origin, which stays where it is
    reversed_axis = density.flip(2).roll(1, 2)
    flipped = torch.cat([-lattice[:, :1], lattice[:, 1:]], dim=1)
    there = network.predict(CrystalBatch(reversed_axis, flipped))
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


def test_a_rotation_changes_nothing(described):
    network, crystals = described
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    turned = CrystalBatch(crystals.density, crystals.lattice @ turn)
    here, there = network.predict(crystals), network.predict(turned)
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


def test_a_shift_by_whole_strides_changes_nothing(described):
    """Other origins are brought to one before: tests/training/test_radial3d_invariance.py."""
    network, crystals = described
    moved = CrystalBatch(crystals.density.roll((4, -4), (2, 4)), crystals.lattice)
    torch.testing.assert_close(
        network.predict(moved), network.predict(crystals), rtol=1e-3, atol=1e-4
    )
