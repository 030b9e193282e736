"""What every backbone must do; third parties subclass BackboneConformance in their tests.

>>> class TestMine(BackboneConformance):
...     name = "mine"  # as in the entry point group taskgroup.backbones
"""

import torch
from torch import Tensor

from taskgroup.models.backbones.base import Backbone
from taskgroup.models.config import ModelConfig
from taskgroup.models.neighbours import DISTANCES
from taskgroup.models.peak_finding import n_columns
from taskgroup.models.registry import find_backbone
from taskgroup.models.views import PreparedRows

_CHANNELS, _ROWS, _GRID, _PEAKS, _COLUMNS = 3, 5, 8, 6, n_columns(1)


class BackboneConformance:
    """Tests of one backbone on random fields of a few channels.

    ``name`` is that of the registry, ``settings`` are further fields of ModelConfig.
    """

    name: str
    settings: dict[str, object] = {"width": 4, "stages": 2, "patch": 2, "grid": _GRID}  # noqa: RUF012 - replaced whole

    def make(self) -> Backbone:
        """The backbone under test, with fixed random weights, its running statistics filled, in evaluation mode."""
        backbone = self._new(seed=0)
        with torch.no_grad():
            backbone(*self.inputs(seed=1))
        return backbone.eval()

    def _new(self, seed: int) -> Backbone:
        torch.manual_seed(seed)
        kind = find_backbone(self.name)
        config = ModelConfig(backbone=self.name, **self.settings)
        return kind(config, _COLUMNS if kind.sees == "peaks" else _CHANNELS)

    def inputs(
        self, rows: int = _ROWS, seed: int = 0, grid: int = _GRID
    ) -> tuple[PreparedRows, Tensor]:
        """Random prepared rows of the backbone's view, and cells."""
        generator = torch.Generator().manual_seed(seed)
        sees = find_backbone(self.name).sees
        if sees == "grid":
            values = torch.randn(rows, _CHANNELS, grid, grid, grid, generator=generator)
            prepared = PreparedRows.of(grid=values)
        elif sees == "distribution":
            prepared = PreparedRows.of(statistics=torch.randn(rows, _CHANNELS, generator=generator))
        else:
            peaks = torch.randn(rows, _PEAKS, _COLUMNS, generator=generator)
            # the first column says that a peak is there
            peaks[:, :, 0] = torch.arange(_PEAKS) < 1 + torch.arange(rows)[:, None]
            near = torch.randn(rows, _PEAKS, len(DISTANCES), _PEAKS, generator=generator)
            prepared = PreparedRows.of(peaks=peaks, nearness=near)
        return prepared, torch.eye(3) * 4 + torch.rand(rows, 3, 3, generator=generator)

    def test_features_have_the_length_it_promises(self) -> None:
        backbone = self.make()
        features = backbone(*self.inputs())
        assert features.shape == (_ROWS, backbone.n_features)
        assert torch.isfinite(features).all()

    def test_rows_do_not_see_each_other_in_evaluation(self) -> None:
        backbone, (rows, lattice) = self.make(), self.inputs()
        together = backbone(rows, lattice)
        alone = torch.cat([backbone(rows[i : i + 1], lattice[i : i + 1]) for i in range(_ROWS)])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)

    def test_equal_inputs_give_equal_features(self) -> None:
        backbone, inputs = self.make(), self.inputs()
        assert torch.equal(backbone(*inputs), backbone(*inputs))

    def test_different_fields_give_different_features(self) -> None:
        backbone, (rows, lattice) = self.make(), self.inputs()
        doubled = rows.map(lambda tensor: 2 * tensor)
        assert (backbone(rows, lattice) - backbone(doubled, lattice)).abs().max() > 1e-3

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        backbone = self.make().train()
        features = backbone(*self.inputs())
        (
            features * torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
        ).sum().backward()
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
        backbone = self.make()
        for grid in (_GRID // 2, 2 * _GRID):
            assert backbone(*self.inputs(rows=2, grid=grid)).shape == (2, backbone.n_features)
