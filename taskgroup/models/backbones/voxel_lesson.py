"""The dense lesson: at every point of a grid, how near an atom is and of which element, told by the training rows.

A density comes with its atoms, so every point of a training row has these labels for nothing. What is learnt is the
look of atoms in the density, between the nuclei too; a network itself never gets an atom.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES, element_properties
from taskgroup.models.backbones.base import Lesson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskgroup.datasets import Dataset
    from taskgroup.models.backbones.radial_layers import Whitening
    from taskgroup.models.views import PreparedRows

ATOM_WIDTH = 0.4
"""Width (Å) of the Gaussians, 1 at the nucleus, that atoms are smeared to."""
ATOM_INTEGRAL = (2 * math.pi * ATOM_WIDTH**2) ** 1.5
"""Integral (Å^3) of such a Gaussian: presence over the cell, divided by it, counts atoms."""

# Farther than this (Å) from every nucleus a point belongs to no element.
_FARTHEST = 0.9
# Points per crystal: those nearest to each nucleus (each counted so often), others near one, and far from all.
_AT_NUCLEUS, _NEAR, _FAR = 8, 64, 32
# Periodic images that can be nearest.
_IMAGES = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


class VoxelReader(nn.Module):
    """At each point the presence of an atom, and the standardised properties of its element (``PROPERTIES``)."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(columns, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 1 + len(PROPERTIES)),
        )

    def forward(self, whitened: Tensor) -> tuple[Tensor, Tensor]:
        """Return presence [P, 1], not negative, and properties [P, len(PROPERTIES)] of whitened points [P, columns]."""
        numbers = self.net(whitened)
        return nn.functional.softplus(numbers[:, :1]), numbers[:, 1:]


class VoxelLesson(Lesson):
    """Presence of atoms at points of the grid, and properties of the nearest element near them.

    Parameters
    ----------
    reader: taught to tell them.
    whitening: of the reader's inputs; fixed by the points of the lesson.
    """

    name = "voxels"
    # Examples are many and cheap, and neighbouring elements differ by little.
    steps = 2000
    batch_size = 512
    lr = 0.01

    def __init__(self, reader: VoxelReader, whitening: Whitening) -> None:
        self.pupils = nn.ModuleDict({"reader": reader, "whitening": whitening})
        self._presence_mean, self._presence_deviation = 0.0, 1.0

    def examples(
        self, dataset: Dataset, numbers: NDArray[np.int64], rows: PreparedRows
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Return fields [N, columns] at points of the rows, and labels [N, 1 + P]: presence, then properties.

        Presence is standardised; properties are NaN far from every nucleus.
        """
        grid = rows["grid"]
        random = np.random.default_rng(0)
        inputs, labels = [], []
        for row, number in enumerate(numbers):
            sites = dataset.frac_coords[number]
            if not len(sites):
                continue
            distances = distances_to_atoms(sites, dataset.lattices[number], grid.shape[-1])
            points = _chosen_points(distances, random)
            chosen = torch.from_numpy(points).to(grid.device)
            inputs.append(grid[row].flatten(1)[:, chosen].T)
            labels.append(_labels(distances[points], dataset.species[number]))
        if not inputs:
            return grid.new_zeros(0, grid.shape[1]), np.zeros((0, 1 + len(PROPERTIES)), np.float32)
        together = np.concatenate(labels)
        self._standardise_presence(together)
        return torch.cat(inputs), together

    def begin(self, inputs: Tensor) -> None:
        """Fix the whitening by all points."""
        self.pupils.train()
        self.pupils["whitening"].fix(inputs)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return standardised presence and properties [N, 1 + P] at points [N, columns]."""
        presence, properties = self.pupils["reader"](self.pupils["whitening"](inputs))
        standardised = (presence - self._presence_mean) / self._presence_deviation
        return torch.cat([standardised, properties], dim=1)

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return the parameters of the reader; the whitening has none."""
        return list(self.pupils["reader"].parameters())

    def _standardise_presence(self, labels: NDArray[np.float32]) -> None:
        """Standardise the first column in place and remember how: the reader gives presence as it is."""
        self._presence_mean = float(labels[:, 0].mean())
        self._presence_deviation = max(float(labels[:, 0].std()), 1e-6)
        labels[:, 0] -= self._presence_mean
        labels[:, 0] /= self._presence_deviation


def distances_to_atoms(
    sites: NDArray[np.float64], lattice: NDArray[np.float64], n: int
) -> NDArray[np.float32]:
    """Return the distance (Å) [n^3, atoms] of each point of a grid to the nearest image of each atom."""
    line = np.arange(n) / n
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    distances = np.empty((len(points), len(sites)), dtype=np.float32)
    for atom, site in enumerate(sites):
        apart = points - site
        apart -= np.round(apart)
        vectors = (apart[:, None] + _IMAGES) @ lattice
        distances[:, atom] = np.sqrt((vectors**2).sum(-1).min(1))
    return distances


def _chosen_points(
    distances: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return numbers of grid points: at nuclei, near them, and far from them."""
    nearest = distances.min(1)
    near, far = np.flatnonzero(nearest < _FARTHEST), np.flatnonzero(nearest >= _FARTHEST)
    chosen = [np.repeat(distances.argmin(0), _AT_NUCLEUS)]
    for points, count in ((near, _NEAR), (far, _FAR)):
        if len(points):
            chosen.append(random.choice(points, count))
    return np.concatenate(chosen)


def _labels(distances: NDArray[np.float32], species: Sequence[str]) -> NDArray[np.float32]:
    """Return presence and properties [N, 1 + P] of points with distances [N, atoms]."""
    labels = np.full((len(distances), 1 + len(PROPERTIES)), np.nan, dtype=np.float32)
    labels[:, 0] = np.exp(-(distances**2) / (2 * ATOM_WIDTH**2)).sum(1)
    of_atoms = np.stack([element_properties(symbol) for symbol in species])
    is_near = distances.min(1) < _FARTHEST
    labels[is_near, 1:] = of_atoms[distances.argmin(1)[is_near]]
    return labels
