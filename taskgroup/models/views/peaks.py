"""The peaks of a density, its atoms, instead of a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from taskgroup.models.lattice import standard_orientation
from taskgroup.models.peaks.finding import USUAL_PEAKS, find_peaks
from taskgroup.models.peaks.neighbours import nearness
from taskgroup.models.peaks.table import n_columns, peak_table
from taskgroup.models.views.base import View
from taskgroup.models.views.crystal_batch import CrystalBatch
from taskgroup.models.views.rows import PreparedRows
from taskgroup.models.views.statistics import distribution, n_statistics

if TYPE_CHECKING:
    from taskgroup.models.config import ModelConfig

# Places per atom: a few maxima are no atoms.
_PEAKS_PER_ATOM = 1.25


class PeakView(View):
    """What the K highest peaks of a density look like and how near they are to each other; invariant already.

    Rows have ``peaks`` [B, K, columns], the first column 1 where there is a peak; ``nearness`` [B, K, distances, K];
    ``positions`` [B, K, 3], fractional, which no network looks at; and, if asked for, ``statistics`` [B, D].
    """

    version = 3

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__(config, in_channels)
        self.n_columns = n_columns(self.in_channels)
        if config.descriptors:
            self.n_statistics = n_statistics(self.out_channels, self.in_channels)

    def key_settings(self) -> tuple[object, ...]:
        """Return the settings that decide what ``prepare`` gives: fields are in the distribution only."""
        config = self.config
        return (config.fields, config.widths, config.scaling) if config.descriptors else ()

    @torch.no_grad()
    def prepare(self, crystals: CrystalBatch) -> PreparedRows:
        """Return rows of the densities of crystals."""
        density = self._seen(crystals)
        # The spheres around a peak hold finitely many points: turned with the crystal, they see the same of it.
        lattice = standard_orientation(crystals.lattice.double())
        peaks = find_peaks(density, lattice, places=_places(crystals))
        near = nearness(peaks.at, peaks.present, lattice.float())
        rows = PreparedRows.of(
            peaks=peak_table(density, lattice, peaks),
            nearness=near,
            positions=peaks.at.to(near),
        )
        if not self.n_statistics:
            return rows
        return rows.replace(statistics=distribution(self._fields(density, lattice), density))

    def trimmed(self, rows: PreparedRows) -> PreparedRows:
        """Return rows with as many places for peaks as the crystal with the most peaks needs."""
        return trimmed_places(rows)


def trimmed_places(rows: PreparedRows) -> PreparedRows:
    """Return rows with as many places as the crystal with the most peaks needs."""
    present = rows["peaks"][:, :, 0]
    most = max(1, int(present.sum(1).max()))
    return rows.replace(
        peaks=rows["peaks"][:, :most].clone(),
        nearness=rows["nearness"][:, :most, :, :most].clone(),
        positions=rows["positions"][:, :most].clone(),
    )


def _places(crystals: CrystalBatch) -> int:
    """Return the places for peaks: more than there are atoms, where these are known, and the same for a dataset."""
    atoms = 0 if crystals.atoms is None else crystals.atoms.numbers.shape[1]
    return max(USUAL_PEAKS, math.ceil(_PEAKS_PER_ATOM * atoms))
