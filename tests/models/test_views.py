"""Views: exact equivariance of what is prepared, exact invariance of what is drawn."""

import math
from itertools import permutations, product

import pytest
import torch

from taskgroup.models import CrystalBatch, ModelConfig, make_view
from taskgroup.models.fields import density_fields, on_finer_grid, scale_values
from taskgroup.models.testing import ViewConformance
from taskgroup.models.views import (
    AtomView,
    CartesianView,
    DistributionView,
    FractionalView,
    PeakView,
    PreparedRows,
)
from taskgroup.models.views.statistics import distribution

from .conftest import make_cells, make_densities

SMALL = {"grid": 4, "patch": 2, "widths": (0.5,), "fields": ("density", "gradient")}


def make(kind="fractional", in_channels=1, **settings):
    return make_view(ModelConfig(**SMALL | {"view": kind} | settings), in_channels)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestFractionalView(ViewConformance):
    view = FractionalView


class TestCartesianView(ViewConformance):
    view = CartesianView
    settings = ViewConformance.settings | {"view": "cartesian", "descriptors": False}


class TestDistributionView(ViewConformance):
    view = DistributionView
    settings = ViewConformance.settings | {"backbone": "descriptors"}


class TestPeakView(ViewConformance):
    view = PeakView
    settings = ViewConformance.settings | {"backbone": "peaks"}


class TestAtomView(ViewConformance):
    view = AtomView
    settings = ViewConformance.settings | {"backbone": "peaks", "atoms": "structure"}


class TestAtomViewOfStructuresAlone(ViewConformance):
    view = AtomView
    settings = ViewConformance.settings | {"backbone": "peaks", "atoms": "structure_alone"}


def shown(view, grid, lattice):
    """The grid that a backbone gets."""
    return view(PreparedRows.of(grid=grid), lattice)["grid"]


def assert_equal_rows(rows, expected, **tolerance):
    assert rows.names == expected.names
    torch.testing.assert_close(rows.tensors, expected.tensors, **tolerance)


def test_the_configuration_chooses_the_view():
    assert type(make()) is FractionalView
    assert type(make("cartesian")) is CartesianView
    assert type(make("cartesian", backbone="descriptors")) is DistributionView


def test_a_row_holds_block_means_of_scaled_fields_and_their_distribution(density, lattice):
    view = make()
    rows = view.prepare(CrystalBatch(density, lattice))
    grid, statistics = rows["grid"], rows["statistics"]
    fields = scale_values(
        density_fields(density, lattice, SMALL["fields"], SMALL["widths"]), "cbrt"
    )
    blocks = fields.view(3, 4, 4, 4, 4, 4, 4, 4).mean((3, 5, 7))
    torch.testing.assert_close(grid, blocks)
    torch.testing.assert_close(statistics, distribution(fields, density))
    assert grid.shape[1] == view.out_channels == 4


def test_unscaled_block_means_keep_the_charge(density, lattice):
    view = make(scaling="none", fields=("density",), widths=(), descriptors=False)
    rows = view.prepare(CrystalBatch(density, lattice))
    assert rows.names == ("grid",)
    grid = rows["grid"]
    torch.testing.assert_close(grid.mean((2, 3, 4)) * 0.5, density.mean((2, 3, 4)))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_grid_finer_than_the_stored_one_is_its_fourier_series(channels):
    density, lattice = make_densities(2, n=9, channels=channels), make_cells(2)
    view = make(in_channels=channels, grid=18, scaling="none", fields=("density",), widths=())
    grid = view.prepare(CrystalBatch(density, lattice))["grid"] * 0.5
    assert grid.shape == (2, channels, 18, 18, 18)
    torch.testing.assert_close(grid[:, :, ::2, ::2, ::2], density, rtol=1e-4, atol=1e-4)


def test_grids_of_any_shape_are_seen_on_the_views_grid():
    """A crystal stored on another grid that holds all its waves is seen alike."""
    coarse, lattice = make_densities(2, n=7), make_cells(2)
    finer = on_finer_grid(coarse, (8, 16, 12))
    view = make(grid=4)
    seen = view.prepare(CrystalBatch(finer, lattice))
    assert seen["grid"].shape[2:] == (4, 4, 4)
    # blocks of other lengths: means of the same function
    whole = view.prepare(CrystalBatch(on_finer_grid(coarse, (48, 48, 48)), lattice))
    exact = make(grid=4, scaling="none", fields=("density",), widths=())
    for crystals in (finer, on_finer_grid(coarse, (48, 48, 48))):
        mean = exact.prepare(CrystalBatch(crystals, lattice))["grid"].mean((2, 3, 4))
        torch.testing.assert_close(mean * 0.5, coarse.mean((2, 3, 4)))
    assert whole["grid"].shape == seen["grid"].shape
    assert (whole["grid"] - seen["grid"]).abs().mean() < 0.1 * whole["grid"].std()


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "fractional"},
        {"kind": "cartesian"},
        {"backbone": "descriptors"},
        {"backbone": "peaks"},
    ],
)
def test_without_magnetisation_the_total_density_alone_is_seen(kind):
    density, lattice = make_densities(2, n=8, channels=2), make_cells(2)
    total, blind, seeing = (
        make(**kind),
        make(in_channels=2, magnetisation=False, **kind),
        make(in_channels=2, **kind),
    )
    of_both = blind.prepare(CrystalBatch(density, lattice))
    assert_equal_rows(of_both, total.prepare(CrystalBatch(density[:, :1], lattice)))
    assert blind.key == total.key
    assert seeing.prepare(CrystalBatch(density, lattice)).nbytes > of_both.nbytes


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "fractional"},
        {"kind": "cartesian"},
        {"backbone": "descriptors"},
        {"backbone": "peaks"},
    ],
)
def test_a_magnetisation_turned_round_is_the_same_crystal(kind):
    density, lattice = make_densities(3, n=8, channels=2), make_cells(3)
    turned = density * torch.tensor([1.0, -1.0])[:, None, None, None]
    assert (density[:, 1].mean((1, 2, 3)) != 0).all()
    view = make(in_channels=2, **kind)
    assert_equal_rows(
        view.prepare(CrystalBatch(turned, lattice)),
        view.prepare(CrystalBatch(density, lattice)),
        rtol=0,
        atol=0,
    )
    partly = density.clone()  # one atom's moment alone is another crystal
    partly[:, 1, :2] *= -1
    pairs = zip(
        view.prepare(CrystalBatch(partly, lattice)).tensors,
        view.prepare(CrystalBatch(density, lattice)).tensors,
        strict=True,
    )
    assert not all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("move", "turn", "follow"),
    [
        (
            lambda x: x.roll((4, -8, 12), (2, 3, 4)),
            lambda cell: cell,
            lambda x: x.roll((1, -2, 3), (2, 3, 4)),
        ),
        (
            lambda x: x.permute(0, 1, 4, 2, 3),
            lambda cell: cell[:, [2, 0, 1]],
            lambda x: x.permute(0, 1, 4, 2, 3),
        ),
        (
            lambda x: x.flip(3),
            lambda cell: cell * torch.tensor([1.0, -1.0, 1.0])[:, None],
            lambda x: x.flip(3),
        ),
    ],
    ids=["origin", "order", "sign"],
)
def test_rows_follow_exactly_when_the_description_of_the_cell_changes(
    density, lattice, move, turn, follow
):
    view = make()
    before, after = (
        view.prepare(CrystalBatch(density, lattice)),
        view.prepare(CrystalBatch(move(density), turn(lattice))),
    )
    torch.testing.assert_close(after["grid"], follow(before["grid"]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["statistics"], before["statistics"], rtol=1e-3, atol=1e-3)


def invariances(grid, cell):
    """All (grid, cell) that describe the same crystal: origins, orders and signs, one row at a time."""
    for order, sign in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = grid.permute(0, 1, *(axis + 2 for axis in order)).flip(
            [i + 2 for i in range(3) if sign[i] < 0]
        )
        yield turned, cell[:, list(order)] * torch.tensor(sign, dtype=cell.dtype)[:, None]


def test_what_is_drawn_describes_the_same_crystal(density, lattice):
    view = make()
    rows = view.prepare(CrystalBatch(density, lattice))
    drawn, cells = view.augment(rows, lattice, generator())
    before, after = rows["grid"], drawn["grid"]
    for i in range(3):
        (grid,) = [
            g
            for g, cell in invariances(before[i : i + 1], lattice[i : i + 1])
            if torch.equal(cell[0], cells[i])
        ]
        shifts = product(range(4), repeat=3)
        assert any(torch.equal(grid[0].roll(shift, (1, 2, 3)), after[i]) for shift in shifts)


def test_draws_keep_the_distribution_and_come_from_the_generator(density, lattice):
    view = make()
    rows = view.prepare(CrystalBatch(density, lattice))
    first, again, other = (view.augment(rows, lattice, generator(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first["grid"], again["grid"])
    assert not torch.equal(first["grid"], other["grid"])
    assert torch.equal(first["statistics"], rows["statistics"])


@pytest.mark.parametrize(
    "kind",
    [{}, {"view": "cartesian"}, {"backbone": "descriptors"}, {"backbone": "peaks"}],
    ids=str,
)
def test_chosen_rows_are_drawn_as_if_alone(density, lattice, kind):
    view, chosen = make(**kind), torch.tensor([2, 0, 2, 1])
    rows = view.prepare(CrystalBatch(density, lattice))
    alone, alone_cells = view.augment(rows[chosen], lattice[chosen], generator())
    for out in (None, rows.empty_rows(6)):
        drawn, cells = view.augment(rows, lattice, generator(), out, chosen)
        assert_equal_rows(drawn, alone, rtol=0, atol=0)
        assert torch.equal(cells, alone_cells)


def test_rows_are_drawn_apart(lattice):
    view = make()
    rows = view.prepare(
        CrystalBatch(make_densities(1).expand(64, -1, -1, -1, -1), lattice[:1].expand(64, -1, -1))
    )
    drawn, cells = view.augment(rows, lattice[:1].expand(64, -1, -1), generator())
    assert len({tuple(row.flatten().tolist()) for row in drawn["grid"]}) > 60
    assert len({tuple(cell.flatten().tolist()) for cell in cells}) > 20


def test_keys_differ_where_rows_do_and_only_there():
    same = [make(), make(width=32, stages=1, dropout=0.5)]
    assert len({view.key for view in same}) == 1
    different = [make(), make(grid=8), make(widths=()), make(scaling="log"), make(in_channels=2), make("cartesian"),
                 make(descriptors=False), make(fields=("density",)), make(backbone="descriptors")]  # fmt: skip
    assert len({view.key for view in different}) == len(different)


def test_descriptor_rows_are_the_distribution_and_stay_as_they_are(density, lattice):
    view, whole = make(backbone="descriptors"), make()
    rows = view.prepare(CrystalBatch(density, lattice))
    assert rows.names == ("statistics",)
    expected = whole.prepare(CrystalBatch(density, lattice))["statistics"]
    torch.testing.assert_close(rows["statistics"], expected)
    drawn, cells = view.augment(rows, lattice, generator())
    assert drawn is rows
    assert cells is lattice
    assert rows["statistics"].shape == (3, view.n_statistics)


def test_a_cube_of_the_cells_size_shows_the_cell():
    """Points of the cube lie at (i + 1/2) / n - 1/2: midway between the cell's own points."""
    view = make("cartesian", edge=4.0)
    grid = torch.rand(1, 4, 4, 4, 4, generator=generator())
    seen = shown(view, grid, torch.eye(3)[None] * 4.0)
    halfway = grid
    for axis in (2, 3, 4):
        halfway = (halfway + halfway.roll(-1, axis)) / 2
    torch.testing.assert_close(seen, halfway.roll((2, 2, 2), (2, 3, 4)))


def test_the_cube_sees_the_same_function_whatever_the_cell():
    """A smooth function of position, given on a skewed cell, is seen at the cube's points up to interpolation."""
    n, cell = 32, make_cells(1)
    x = torch.arange(n) / n
    fractional = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), dim=-1)
    wave = torch.cos(2 * math.pi * (fractional[..., 0] + fractional[..., 2]) + 0.4)
    seen = shown(make("cartesian", edge=9.0), wave.expand(1, 4, n, n, n), cell)
    line = ((torch.arange(n) + 0.5) / n - 0.5) * 9.0
    points = torch.stack(
        torch.meshgrid(line, line, line, indexing="ij"), dim=-1
    ) @ torch.linalg.inv(cell[0])
    expected = torch.cos(2 * math.pi * (points[..., 0] + points[..., 2]) + 0.4)
    torch.testing.assert_close(seen[0, 0], expected, rtol=0, atol=0.02)


def test_the_cube_is_the_same_after_a_lattice_translation_of_its_origin(density, lattice):
    view = make("cartesian")
    grid = view.prepare(CrystalBatch(density, lattice))["grid"]
    wound = lattice.clone()
    wound[:, 0] += lattice[
        :, 1
    ]  # another cell of the same lattice, hence another function: the view must notice
    assert not torch.allclose(shown(view, grid, wound), shown(view, grid, lattice))
    torch.testing.assert_close(shown(view, grid.roll(4, 2), lattice), shown(view, grid, lattice))


def test_cartesian_draws_turn_the_cell_and_keep_its_metric(density, lattice):
    view = make("cartesian")
    rows = view.prepare(CrystalBatch(density, lattice))
    drawn, cells = view.augment(rows, lattice, generator())
    torch.testing.assert_close(cells @ cells.mT, lattice @ lattice.mT)
    assert (cells - lattice).abs().amin(0).max() > 0.1
    before, after = rows["grid"], drawn["grid"]
    for i in range(3):
        assert any(
            torch.equal(before[i].roll(s, (1, 2, 3)), after[i]) for s in product(range(4), repeat=3)
        )


def test_orientations_are_uniform_over_rotations_and_reflections():
    view = make("cartesian", descriptors=False)
    rows = PreparedRows.of(grid=torch.zeros(4000, 4, 4, 4, 4))
    _, turns = view.augment(rows, torch.eye(3).expand(4000, 3, 3), generator())
    assert turns.mean(0).abs().max() < 0.05
    assert abs(torch.linalg.det(turns).mean()) < 0.05
    torch.testing.assert_close((turns**2).mean(0), torch.full((3, 3), 1 / 3), rtol=0, atol=0.03)
