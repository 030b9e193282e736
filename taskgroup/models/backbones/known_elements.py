"""Numbers of an element that is known: tabulated properties and a learned embedding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from taskgroup.datasets.composition import PROPERTIES, element_properties
from taskgroup.densities.elements import SYMBOLS

EMBEDDED = 16
"""Learned numbers per element."""
# Properties of heavier elements (from rutherfordium) are not tabulated.
_LAST = 103
N_KNOWN = len(PROPERTIES) + EMBEDDED


class KnownElements(nn.Module):
    """Properties (``PROPERTIES``, standardised over the elements) and an embedding of elements by atomic number.

    The embedding starts at zero: an element that no training row has is described by its properties alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", _standardised_properties(), persistent=False)
        self.embedding = nn.Embedding(len(SYMBOLS) + 1, EMBEDDED)
        nn.init.zeros_(self.embedding.weight)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return [R, N_KNOWN] of atomic numbers [R], 0 where there is no atom."""
        index = numbers.long()
        return torch.cat([self.table[index], self.embedding(index)], dim=1)


def _standardised_properties() -> Tensor:
    """Return properties [elements + 1, P] by atomic number; 0 for no atom and where a property is not known."""
    values = np.array([element_properties(symbol) for symbol in SYMBOLS[:_LAST]])
    scaled = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
    no_atom = np.zeros((1, len(PROPERTIES)))
    unknown = np.zeros((len(SYMBOLS) - _LAST, len(PROPERTIES)))
    table = np.concatenate([no_atom, np.nan_to_num(scaled), unknown])
    return torch.tensor(table, dtype=torch.float32)
