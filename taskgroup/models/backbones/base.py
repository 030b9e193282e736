"""The contract of a backbone: its settings, its view, its version, and lessons that come before the targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from taskgroup.models.views import CartesianView, FractionalView, PreparedRows, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskgroup.datasets import Dataset
    from taskgroup.models.config import ModelConfig


class BackboneSettings(BaseModel):
    """Settings of one kind of backbone. A subclass adds fields, which a study file may set and a space may search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", description="name of the backbone, as in the registry")
    width: int = Field(
        16, ge=2, le=512, description="size of the layers; the distribution's branch has it too"
    )

    @property
    def grid_multiple(self) -> int:
        """Number that must divide the points per axis of the view's grid."""
        return 1

    def n_points(self, grid: int) -> int:
        """Return how many points (or peaks) of a crystal the layers compute on, for a grid of so many points per axis.

        Times the width it says how much a thread has to do.
        """
        return grid**3


class Lesson:
    """A task that part of a backbone learns before the targets, from what datasets know about training rows.

    ``pupils`` are the modules that the lesson changes. Networks whose pupils begin with equal weights share what the
    first of them has learnt.

    ``steps``, ``batch_size`` (examples per step) and ``lr`` (AdamW's highest learning rate) say how it is learnt.
    """

    name: str
    steps: ClassVar[int] = 1000
    batch_size: ClassVar[int] = 256
    lr: ClassVar[float] = 0.003
    pupils: nn.ModuleDict

    def examples(
        self, dataset: Dataset, numbers: NDArray[np.int64], rows: PreparedRows
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Return inputs [N, ...] on the device of ``rows`` and labels [N, L], NaN where unknown.

        ``rows`` are the prepared rows of these row numbers.
        """
        raise NotImplementedError

    def begin(self, inputs: Tensor) -> None:
        """Do what must be done once with all inputs before the first step."""

    def predict(self, inputs: Tensor) -> Tensor:
        """Return standardised labels [N, L] of inputs."""
        raise NotImplementedError

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return what the optimiser moves; by default all parameters of the pupils."""
        return list(self.pupils.parameters())


class Backbone(nn.Module):
    """Base of the backbones: from what a view shows to features of the crystal.

    Parameters of a subclass
    ------------------------
    config: the settings of the network; ``config.backbone`` is an instance of the subclass's ``Settings``.
    view: an instance of what ``view_class`` names; it knows the sizes of its rows.

    Attributes
    ----------
    Settings: fields that only this backbone has.
    version: raised whenever equal settings would give other numbers; part of the key of every trained network.
    autocast: whether ``forward`` may run in bfloat16 autocast, which pays for convolutions.
    uses_statistics: whether it reads the distribution (``statistics``) itself; else a branch beside it does.
    takes_atoms: whether it may be used with ``model.atoms: structure``.
    n_features: F, the length of the features.
    n_plain: how many of the last features are plain sums, which heads also see as they are.

    A backbone works on a single row in evaluation; one on grids works on every size that ``Settings.grid_multiple``
    divides. A plug-in names its subclass under the entry point group ``taskgroup.backbones`` and runs
    ``taskgroup.models.testing.BackboneConformance`` in its tests.
    """

    Settings: ClassVar[type[BackboneSettings]] = BackboneSettings
    version: ClassVar[int] = 1
    autocast: ClassVar[bool] = True
    uses_statistics: ClassVar[bool] = False
    takes_atoms: ClassVar[bool] = False
    n_features: int
    n_plain: int = 0

    def __init__(self, config: ModelConfig, view: View) -> None:
        super().__init__()

    @classmethod
    def view_class(cls, config: ModelConfig) -> type[View]:
        """Return the view whose rows the backbone takes; by default the grid that ``config.view`` names."""
        return CartesianView if config.view == "cartesian" else FractionalView

    def forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        """Return features [B, F] of what the view shows and cells [B, 3, 3] (Å)."""
        raise NotImplementedError

    def lessons(self) -> Sequence[Lesson]:
        """Return what the backbone learns before the targets, in this order; by default nothing."""
        return ()
