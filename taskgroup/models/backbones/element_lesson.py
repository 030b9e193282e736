"""The lesson of networks on peaks: which element makes a peak, told by the atoms of the training rows.

A density comes with its atoms, so every peak of a training row has the name of an element for nothing. What is learnt
is the look of an element in the density; a network itself never gets an atom.
"""

from __future__ import annotations

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
    from taskgroup.models.views import PreparedRows

# Largest distance (Å) between a peak and the atom that makes it.
_NEAREST = 0.4


class ElementLesson(Lesson):
    """The standardised properties of the element at each peak.

    Parameters
    ----------
    element: from scaled columns of peaks [R, columns] to properties [R, len(PROPERTIES)].
    scale: the scale of the columns, whose running means follow the lesson.
    """

    name = "elements"

    def __init__(self, element: nn.Module, scale: nn.Module) -> None:
        self.pupils = nn.ModuleDict({"element": element, "scale": scale})

    def examples(
        self, dataset: Dataset, numbers: NDArray[np.int64], rows: PreparedRows
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """Return columns [N, columns] of the peaks that have an atom, and properties [N, P] of their elements."""
        peaks = rows["peaks"]
        properties = peak_elements(dataset, numbers, rows)
        has_label = ~np.isnan(properties).all(2)
        return peaks[torch.from_numpy(has_label).to(peaks.device)], properties[has_label]

    def begin(self, inputs: Tensor) -> None:
        """Let the scale see all peaks."""
        self.pupils.train()
        self._scaled(inputs)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return standardised properties of the elements at peaks [N, columns]."""
        return self.pupils["element"](self._scaled(inputs))

    def parameters(self) -> Sequence[nn.Parameter]:
        """Return the parameters of the element network; the scale has running means only."""
        return list(self.pupils["element"].parameters())

    def _scaled(self, peaks: Tensor) -> Tensor:
        all_present = peaks.new_ones(len(peaks), 1)
        return self.pupils["scale"](peaks, all_present)


def peak_elements(
    dataset: Dataset, numbers: NDArray[np.int64], rows: PreparedRows
) -> NDArray[np.float32]:
    """Return the properties of the element at each peak: [rows, peaks, len(PROPERTIES)].

    ``rows`` are the rows of these numbers as a PeakView prepares them. NaN where there is no peak, no atom within 0.4 Å
    of it, or a property is not known.
    """
    present = rows["peaks"][:, :, 0].cpu().numpy() > 0.5
    places = rows["positions"].cpu().numpy()
    values = np.full((*present.shape, len(PROPERTIES)), np.nan, dtype=np.float32)
    for i, number in enumerate(numbers):
        sites, species = dataset.frac_coords[number], dataset.species[number]
        if not len(sites):
            continue
        apart = places[i][:, None] - sites
        # the nearest periodic image of each atom
        vectors = (apart - apart.round()) @ dataset.lattices[number]
        distance = np.linalg.norm(vectors, axis=2)
        nearest = distance.argmin(1)
        has_atom = present[i] & (distance.min(1) < _NEAREST)
        for peak in np.flatnonzero(has_atom):
            values[i, peak] = element_properties(species[nearest[peak]])
    return values
