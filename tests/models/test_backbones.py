"""Every backbone keeps the conformance tests; grids keep their invariances as far as strides allow."""

from itertools import permutations, product

import pytest
import torch

from taskgroup.errors import ConfigError
from taskgroup.models import BACKBONES, CrystalBatch
from taskgroup.models.testing import BackboneConformance

from .conftest import make_cells, make_densities, make_network, train_a_little


class TestMSA3DCNN(BackboneConformance):
    name = "msa3dcnn"


class TestMSA3DCNNOfThreeScales(BackboneConformance):
    name = "msa3dcnn"
    settings = BackboneConformance.settings | {
        "dilations": (1, 2, 3),
        "blocks": 2,
        "pooling": "attention",
    }


class TestResNet3D(BackboneConformance):
    name = "resnet3d"


class TestResNet3DInACube(BackboneConformance):
    name = "resnet3d"
    settings = BackboneConformance.settings | {
        "view": "cartesian",
        "pooling": "mean_max",
        "stages": 3,
    }


class TestConvNeXt3D(BackboneConformance):
    name = "convnext3d"


class TestSymmetricConvNeXt3DInACube(BackboneConformance):
    name = "convnext3d"
    settings = BackboneConformance.settings | {
        "view": "cartesian",
        "symmetric": True,
        "pooling": "attention",
    }


class TestSymmetricMSA3DCNN(BackboneConformance):
    name = "msa3dcnn"
    settings = BackboneConformance.settings | {"symmetric": True, "stages": 3}


class TestDescriptors(BackboneConformance):
    name = "descriptors"


class TestPeaks(BackboneConformance):
    name = "peaks"


class TestPeaksOfKnownAtoms(BackboneConformance):
    name = "peaks"
    settings = BackboneConformance.settings | {"atoms": "structure"}

    def randomised(self, rows, generator):
        randomised = super().randomised(rows, generator)
        peaks = randomised["peaks"].clone()
        peaks[:, :, :2] = rows["peaks"][:, :, :2]
        return randomised.replace(peaks=peaks)


def test_names_are_unique_and_an_unknown_one_is_refused():
    assert len(set(BACKBONES)) == len(BACKBONES) >= len(BACKBONES.builtin_names) == 6
    with pytest.raises(ConfigError, match="unknown backbone 'msa3dcn'; did you mean 'msa3dcnn'"):
        BACKBONES.find("msa3dcn")


@pytest.mark.parametrize("backbone", ["msa3dcnn", "resnet3d", "convnext3d"])
def test_shifts_by_whole_strides_change_nothing(backbone):
    density, lattice = make_densities(3), make_cells(3)
    network = train_a_little(make_network(backbone=backbone, patch=2, stages=2), density, lattice)
    with torch.no_grad():
        rows = network.view.prepare(CrystalBatch(density, lattice))
        here = network(rows, lattice)
        moved = network(rows.replace(grid=rows["grid"].roll((4, 0, -4), (2, 3, 4))), lattice)
    torch.testing.assert_close(moved, here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["msa3dcnn", "resnet3d", "convnext3d"])
def test_other_shifts_move_an_untrained_network_little_and_their_average_less(backbone):
    """Against what tells crystals apart; the descriptors, exactly invariant, are left out."""
    density = make_densities(8) * torch.linspace(0.5, 4, 8)[:, None, None, None, None]
    lattice = make_cells(8)
    network = make_network(
        backbone=backbone, patch=2, stages=2, descriptors=False, lattice_features=False
    )
    train_a_little(network, density, lattice)
    with torch.no_grad():
        rows = network.view.prepare(CrystalBatch(density, lattice))
        shifts = product(range(4), repeat=3)  # all there are, up to whole strides
        moved = [rows.replace(grid=rows["grid"].roll(shift, (2, 3, 4))) for shift in shifts]
        features = torch.stack([network.features(row, lattice) for row in moved])
    between = features.mean(0).std(0).mean()
    within = features.std(0).mean()
    some = features[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    averaged = some.unflatten(0, (4, 16)).mean(1).std(0).mean()
    assert 0 < within < 0.4 * between
    assert averaged < 0.5 * within


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("backbone", ["msa3dcnn", "resnet3d", "convnext3d"])
def test_symmetric_kernels_make_order_and_sign_of_the_axes_exact(backbone, patch):
    density, lattice = make_densities(3), make_cells(3)
    settings = {"backbone": backbone, "patch": patch, "symmetric": True, "descriptors": False}
    network = train_a_little(make_network(**settings), density, lattice)
    with torch.no_grad():
        rows = network.view.prepare(CrystalBatch(density, lattice))
        here = network(rows, lattice)
        for order, signs in product(permutations(range(3)), product((False, True), repeat=3)):
            reordered = rows["grid"].permute(0, 1, *(axis + 2 for axis in order))
            turned = rows.replace(grid=reordered.flip([i + 2 for i in range(3) if signs[i]]))
            torch.testing.assert_close(
                network(turned, lattice[:, list(order)]), here, rtol=1e-4, atol=1e-5
            )


def test_symmetric_kernels_are_no_default_of_others():
    density, lattice = make_densities(3), make_cells(3)
    network = train_a_little(make_network(descriptors=False), density, lattice)
    with torch.no_grad():
        rows = network.view.prepare(CrystalBatch(density, lattice))
        turned = rows.replace(grid=rows["grid"].transpose(2, 3))
        assert not torch.allclose(network(turned, lattice), network(rows, lattice), rtol=1e-3)
