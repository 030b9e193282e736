"""Rules that every backbone and every view keeps; third parties subclass these classes in their tests.

>>> class TestMine(BackboneConformance):
...     name = "mine"  # as in the entry point group taskgroup.backbones
>>> class TestMyView(ViewConformance):
...     view = None  # the class
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taskgroup.models.backbones.base import Backbone
from taskgroup.models.config import ModelConfig
from taskgroup.models.multitask import make_view
from taskgroup.models.registry import BACKBONES
from taskgroup.models.versions import meaning
from taskgroup.models.views import AtomBatch, CrystalBatch, PreparedRows, View

_ROWS = 5
_GRID = 8
_MOST_ATOMS = 3
# Waves that random densities are made of: whole periods along the lattice vectors.
_WAVES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 2), (2, -1, 1))


def random_crystals(rows: int, seed: int = 0, grid: int = _GRID, channels: int = 1) -> CrystalBatch:
    """Return smooth positive densities [rows, channels, grid, grid, grid] (e/Å^3) in skewed cells, and random atoms."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(grid) / grid
    density = torch.full((rows, channels, grid, grid, grid), 2.0)
    for wave in _WAVES:
        phase = torch.rand(rows, channels, 1, 1, 1, generator=generator)
        size = torch.rand(rows, channels, 1, 1, 1, generator=generator) * 0.3
        periods = wave[0] * steps[:, None, None] + wave[1] * steps[:, None] + wave[2] * steps
        density = density + size * torch.cos(2 * math.pi * (periods + phase))
    cells = torch.eye(3) * 4 + torch.rand(rows, 3, 3, generator=generator)
    # one atom in the first crystal, two in the next, and so on
    places = torch.arange(_MOST_ATOMS)
    numbers = torch.randint(1, 90, (rows, _MOST_ATOMS), generator=generator)
    numbers = numbers * (places <= torch.arange(rows)[:, None] % _MOST_ATOMS)
    positions = torch.rand(rows, _MOST_ATOMS, 3, generator=generator)
    return CrystalBatch(density, cells, AtomBatch(numbers, positions))


class BackboneConformance:
    """Tests of one backbone on rows of its view.

    ``name`` is that of the registry; ``settings`` are further settings of ModelConfig, flat or nested.
    """

    name: str
    settings: dict[str, Any] = {"width": 4, "stages": 2, "patch": 2, "grid": _GRID}  # noqa: RUF012 - replaced whole

    def config(self) -> ModelConfig:
        """Return the settings of the network."""
        return ModelConfig(backbone=self.name).updated(self.settings)

    def make(self) -> Backbone:
        """Return the backbone in evaluation mode, with fixed random weights and running statistics filled."""
        backbone = self._new(seed=0)
        with torch.no_grad():
            backbone(*self.inputs(seed=1))
        return backbone.eval()

    def _new(self, seed: int) -> Backbone:
        torch.manual_seed(seed)
        config = self.config()
        return BACKBONES.find(self.name)(config, make_view(config, 1))

    def inputs(self, rows: int = _ROWS, seed: int = 0) -> tuple[PreparedRows, Tensor]:
        """Return what the backbone gets: prepared rows as its view shows them, of random numbers, and cells."""
        crystals = random_crystals(rows, seed)
        lattice = crystals.lattice
        view = make_view(self.config(), 1)
        shown = view(view.prepare(crystals), lattice)
        generator = torch.Generator().manual_seed(seed)
        return self.randomised(shown, generator), lattice

    def randomised(self, rows: PreparedRows, generator: torch.Generator) -> PreparedRows:
        """Return rows of the same shapes with normal random numbers, so that no two crystals are alike.

        Overwrite it where a view's numbers must keep rules.
        """
        return rows.map(lambda tensor: torch.randn(tensor.shape, generator=generator))

    def test_settings_survive_json(self) -> None:
        config = self.config()
        assert config.backbone.name == self.name
        assert ModelConfig.model_validate(config.model_dump(mode="json")) == config
        assert all(field.description for field in type(config.backbone).model_fields.values())

    def test_its_meaning_names_backbone_and_view(self) -> None:
        versions = meaning(self.config())
        kind = BACKBONES.find(self.name)
        assert versions["backbone"] == {"name": self.name, "version": kind.version}
        assert versions["view"]["version"] >= 1

    def test_features_have_the_length_it_promises(self) -> None:
        backbone = self.make()
        features = backbone(*self.inputs())
        assert features.shape == (_ROWS, backbone.n_features)
        assert torch.isfinite(features).all()

    def test_rows_do_not_see_each_other_in_evaluation(self) -> None:
        backbone, (rows, lattice) = self.make(), self.inputs()
        together = backbone(rows, lattice)
        alone = [backbone(rows[i : i + 1], lattice[i : i + 1]) for i in range(_ROWS)]
        torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)

    def test_equal_inputs_give_equal_features(self) -> None:
        backbone, inputs = self.make(), self.inputs()
        assert torch.equal(backbone(*inputs), backbone(*inputs))

    def test_different_rows_give_different_features(self) -> None:
        backbone, (rows, lattice) = self.make(), self.inputs()
        others, _ = self.inputs(seed=2)
        assert (backbone(rows, lattice) - backbone(others, lattice)).abs().max() > 1e-3

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        backbone = self.make().train()
        features = backbone(*self.inputs())
        weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
        (features * weights).sum().backward()
        for name, parameter in backbone.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_the_state_dict_holds_all_of_it(self) -> None:
        first, inputs = self.make(), self.inputs()
        second = self._new(seed=1)
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second.eval()(*inputs), first(*inputs), rtol=0, atol=0)

    def test_it_works_in_bfloat16_autocast(self) -> None:
        backbone, inputs = self.make(), self.inputs()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            low = backbone(*inputs).float()
        high = backbone(*inputs)
        assert (low - high).abs().mean() < 0.05 * high.abs().mean() + 0.02

    def test_a_grid_of_another_size_is_fine(self) -> None:
        backbone, (rows, lattice) = self.make(), self.inputs(rows=2)
        if "grid" not in rows:
            pytest.skip("the rows have no grid")
        for factor in (0.5, 2):
            grid = nn.functional.interpolate(rows["grid"], scale_factor=factor)
            assert backbone(rows.replace(grid=grid), lattice).shape == (2, backbone.n_features)

    def test_lessons_name_modules_of_the_backbone(self) -> None:
        backbone = self.make()
        own = {id(parameter) for parameter in backbone.parameters()}
        for lesson in backbone.lessons():
            assert lesson.name
            assert {id(parameter) for parameter in lesson.parameters()} <= own


class ViewConformance:
    """Tests of one view on random crystals.

    ``view`` is the class; ``settings`` are settings of ModelConfig, flat or nested.
    """

    view: type[View]
    settings: dict[str, Any] = {"grid": _GRID}  # noqa: RUF012 - replaced whole

    def make(self, channels: int = 1, **settings: Any) -> View:
        """Return a view of densities with so many channels."""
        return self.view(ModelConfig(**self.settings | settings), channels)

    def prepared(self, channels: int = 1) -> tuple[View, PreparedRows, Tensor]:
        """Return a view, rows that it prepared, and their cells."""
        view = self.make(channels)
        crystals = random_crystals(_ROWS, grid=2 * _GRID, channels=channels)
        return view, view.prepare(crystals), crystals.lattice

    def test_every_tensor_has_one_row_per_crystal_and_is_finite(self) -> None:
        for channels in (1, 2):
            _, rows, _ = self.prepared(channels)
            for name, tensor in rows.items():
                assert tensor.shape[0] == _ROWS, name
                assert tensor.dtype == torch.float32, name
                assert torch.isfinite(tensor).all(), name

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        view, rows, _ = self.prepared()
        crystals = random_crystals(_ROWS, grid=2 * _GRID)
        for number in range(_ROWS):
            one = slice(number, number + 1)
            _assert_close(view.prepare(crystals[one]), rows[one], rtol=1e-4, atol=1e-5)

    def test_the_key_knows_version_and_channels(self) -> None:
        changed = type("Changed", (self.view,), {"version": self.view.version + 1})
        changed.__module__, changed.__qualname__ = self.view.__module__, self.view.__qualname__
        config = ModelConfig(**self.settings)
        assert self.make().key == self.make().key
        assert self.make(dropout=0.5).key == self.make().key
        assert changed(config, 1).key != self.make().key
        assert self.make(channels=2).key != self.make().key

    def test_draws_keep_names_and_shapes_and_come_from_the_generator(self) -> None:
        view, rows, lattice = self.prepared()
        drawn, cells = view.augment(rows, lattice, _generator())
        again, _ = view.augment(rows, lattice, _generator())
        assert drawn.names == rows.names
        assert [tensor.shape for tensor in drawn.tensors] == [t.shape for t in rows.tensors]
        assert cells.shape == lattice.shape
        volumes = torch.linalg.det(cells).abs(), torch.linalg.det(lattice).abs()
        torch.testing.assert_close(*volumes, rtol=1e-4, atol=1e-4)
        _assert_close(drawn, again, rtol=0, atol=0)

    def test_chosen_rows_are_drawn_as_if_alone(self) -> None:
        view, rows, lattice = self.prepared()
        chosen = torch.tensor([2, 0, 2, 1])
        alone, alone_cells = view.augment(rows[chosen], lattice[chosen], _generator())
        for out in (None, rows.empty_rows(len(chosen) + 2)):
            drawn, cells = view.augment(rows, lattice, _generator(), out, chosen)
            _assert_close(drawn, alone, rtol=0, atol=0)
            assert torch.equal(cells, alone_cells)

    def test_trimmed_rows_show_the_same_crystals(self) -> None:
        view, rows, _ = self.prepared()
        trimmed = view.trimmed(rows)
        assert trimmed.names == rows.names
        assert len(trimmed) == len(rows)
        assert trimmed.nbytes <= rows.nbytes

    def test_a_magnetisation_turned_round_is_the_same_crystal(self) -> None:
        view = self.make(channels=2)
        crystals = random_crystals(_ROWS, grid=2 * _GRID, channels=2)
        turned = crystals.density * torch.tensor([1.0, -1.0])[:, None, None, None]
        same = replace(crystals, density=turned)
        _assert_close(view.prepare(same), view.prepare(crystals), rtol=0, atol=0)

    def test_what_the_backbone_gets_has_one_row_per_crystal(self) -> None:
        view, rows, lattice = self.prepared()
        shown = view(rows, lattice)
        assert all(tensor.shape[0] == _ROWS for tensor in shown.tensors)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _assert_close(rows: PreparedRows, expected: PreparedRows, **tolerance: float) -> None:
    assert rows.names == expected.names
    torch.testing.assert_close(rows.tensors, expected.tensors, **tolerance)
