"""Numbers of the cell alone."""

from itertools import permutations, product

import torch

from taskgroup.models.lattice import N_LATTICE_FEATURES, lattice_features, reciprocal, volume

from .conftest import make_cells


def test_reciprocal_and_volume_are_those_of_linear_algebra():
    cells = make_cells(5).double()
    torch.testing.assert_close(reciprocal(cells), torch.linalg.inv(cells))
    torch.testing.assert_close(volume(cells), torch.linalg.det(cells))


def test_features_do_not_depend_on_order_sign_or_orientation():
    cells = make_cells(4).double()
    expected = lattice_features(cells)
    rotation, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    for order, sign in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = cells[:, order] * torch.tensor(sign)[:, None] @ rotation
        torch.testing.assert_close(lattice_features(turned), expected)


def test_a_cube_has_a_volume_and_no_shape():
    features = lattice_features(
        torch.eye(3).double()[None] * torch.tensor([2.0, 5.0])[:, None, None]
    )
    assert features.shape == (2, N_LATTICE_FEATURES)
    torch.testing.assert_close(
        features[:, 0], (torch.log(torch.tensor([8.0, 125.0])) - 4) / 1.5, check_dtype=False
    )
    assert features[:, 1:3].abs().max() < 1e-12
    torch.testing.assert_close(
        features[:, 3:], torch.tensor([[2 / 4, 8 / 60], [5 / 4, 125 / 60]]).double()
    )


def test_cells_of_equal_volume_and_different_metric_differ():
    cube, slab = torch.eye(3)[None] * 4.0, torch.diag(torch.tensor([2.0, 4.0, 8.0]))[None]
    assert (lattice_features(slab) - lattice_features(cube)).abs().max() > 0.1
