"""The base of all views: what a network sees of a stored density.

``prepare`` is deterministic and done once per dataset. ``augment`` draws an exact invariance at each training step: a
scalar property does not depend on the origin, nor on order or sign of the lattice vectors, nor on orientation.
``forward`` is applied at each pass, behind ``augment``, and gives the backbone its input.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from taskgroup.errors import ConfigError
from taskgroup.models.fields import density_fields, low_passes, scale_values
from taskgroup.models.lattice import reciprocal
from taskgroup.models.views.crystal_batch import CrystalBatch
from taskgroup.models.views.rows import PreparedRows

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig


class View(nn.Module):
    """Base of the views.

    Parameters
    ----------
    config: fields, widths, scaling and what else a subclass reads.
    in_channels: channels of the densities: 1, or 2 with the magnetisation.

    ``in_channels`` is how many channels the view looks at. ``out_channels`` is C', the number of scaled fields.
    ``n_statistics`` is the length D of the distribution that rows carry; 0: they carry none. ``uses_atoms``: whether it
    looks at the atoms of a crystal, else it sees the density alone.

    ``version`` is raised whenever ``prepare`` or ``forward`` gives other numbers for equal densities: also when that is
    because of the functions they call (fields, statistics, peaks). It is part of the key of prepared rows and of every
    trained network.
    """

    version: ClassVar[int] = 1
    uses_atoms: ClassVar[bool] = False
    n_statistics: int = 0

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.in_channels = in_channels if config.magnetisation else 1
        self.out_channels = self.in_channels * len(config.fields) * (1 + len(config.widths))

    @property
    def key(self) -> str:
        """Text that is equal for views that prepare equal rows."""
        kind = type(self)
        settings = (*self.key_settings(), self.in_channels)
        if self.config.lowpass:
            settings = (*settings, self.config.lowpass)
        return f"{kind.__module__}.{kind.__qualname__} version {self.version} {settings}"

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives."""
        raise NotImplementedError

    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of crystals: what a network sees of them."""
        raise NotImplementedError

    def trimmed(self, rows: PreparedRows) -> PreparedRows:
        """Return the rows of a whole dataset without memory that none of them needs."""
        return rows

    def augment(
        self,
        rows: PreparedRows,
        lattice: Tensor,
        generator: torch.Generator | None,
        out: PreparedRows | None = None,
        chosen: Tensor | None = None,
    ) -> tuple[PreparedRows, Tensor]:
        """Return rows and cells after random exact invariances; of invariant rows the rows themselves.

        Parameters
        ----------
        rows, lattice: prepared rows and their cells [R, 3, 3].
        generator: of the device of the rows. The host does not wait for a draw.
        out: memory for the result (``PreparedRows.empty_rows``), with at least as many rows.
        chosen: numbers [B], int64, of the rows to take. The result is that of
            ``augment(rows[chosen], lattice[chosen], ...)``, in one gather.
        """
        if chosen is None:
            return rows, lattice
        return rows.take(chosen, out), lattice[chosen]

    def forward(self, rows: PreparedRows, lattice: Tensor) -> PreparedRows:
        """Return what the backbone gets of prepared rows and their cells."""
        return rows

    def _seen(self, crystals: CrystalBatch) -> Tensor:
        """Return the channels that the view looks at, low-passed as the configuration says.

        A net magnetisation that points down is turned up, which is the same crystal.
        """
        density = self._low_passed(crystals)
        total = density[:, :1]
        if self.in_channels == 1:
            return total
        magnetisation = density[:, 1:2]
        points_down = magnetisation.sum((2, 3, 4), keepdim=True) < 0
        upward = torch.where(points_down, -magnetisation, magnetisation)
        return torch.cat([total, upward], dim=1)

    def _low_passed(self, crystals: CrystalBatch) -> Tensor:
        """Return densities low-passed with ``config.lowpass`` Å in all. Raises ConfigError: they are by more."""
        wanted, stored = self.config.lowpass, crystals.sigma
        if wanted == 0 or math.isclose(wanted, stored):
            return crystals.density
        if wanted < stored:
            raise ConfigError(
                f"model.lowpass: must be 0 or at least that of the densities, {stored:g} Å, found {wanted:g}"
            )
        # widths of Gaussians in a row add up as squares
        further = math.sqrt(wanted**2 - stored**2)
        inverse = reciprocal(crystals.lattice.float())
        (density,) = low_passes(crystals.density.float(), inverse, [further])
        return density

    def _fields(self, density: Tensor, lattice: Tensor) -> Tensor:
        """Return the scaled fields [B, C', N, N, N] of densities that ``_seen`` gave."""
        config = self.config
        fields = density_fields(density.float(), lattice.float(), config.fields, config.widths)
        return scale_values(fields, config.scaling)
