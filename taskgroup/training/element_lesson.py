"""The first lesson of a network on peaks: which element makes a peak, told by the atoms of the training rows.

A density comes with its atoms, so every peak of a training row has the name of an element for nothing. What is learnt
is the look of an element in the density; a network never sees an atom, then as before.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taskgroup.datasets import Dataset
from taskgroup.datasets.composition import PROPERTIES, element_properties
from taskgroup.models import PreparedRows
from taskgroup.models.backbones.peak_network import PeakNetwork

_NEAREST = 0.4  # Å between a peak and the atom that makes it
_STEPS, _BATCH = 1000, 256
_LR, _WARMUP = 0.003, 0.1


def peak_elements(
    dataset: Dataset, rows: NDArray[np.int64], prepared: PreparedRows
) -> NDArray[np.float32]:
    """The properties of the element at each peak of these rows: [rows, peaks, len(PROPERTIES)].

    ``prepared`` are these rows, as a PeakView prepares them. NaN where there is no peak, no atom within 0.4 Å of it,
    or a property is not known.
    """
    present = prepared["peaks"][:, :, 0].cpu().numpy() > 0.5
    places = prepared["positions"].cpu().numpy()
    values = np.full((*present.shape, len(PROPERTIES)), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        sites, species = dataset.frac_coords[row], dataset.species[row]
        if not len(sites):
            continue
        apart = places[i][:, None] - sites
        distance = np.linalg.norm((apart - apart.round()) @ dataset.lattices[row], axis=2)
        nearest = distance.argmin(1)
        for peak in np.flatnonzero(present[i] & (distance.min(1) < _NEAREST)):
            values[i, peak] = element_properties(species[nearest[peak]])
    return values


def learn_elements(
    network: PeakNetwork,
    prepared: PreparedRows,
    properties: NDArray[np.float32],
    generator: torch.Generator,
) -> bool:
    """Train ``network.element`` to give the standardised properties of the elements at peaks.

    Parameters
    ----------
    prepared: rows as the network sees them, on its device.
    properties: [rows, peaks, len(PROPERTIES)] of ``peak_elements``.
    generator: of the CPU; draws the batches.

    False where no atom is known, or all are of one element: there is nothing to learn.
    """
    known = ~np.isnan(properties).all(2)
    labels = properties[known]
    if len(np.unique(labels[:, 0])) < 2:
        return False
    peaks = prepared["peaks"]
    here = peaks[torch.from_numpy(known).to(peaks.device)]
    labels = (labels - np.nanmean(labels, 0)) / np.maximum(np.nanstd(labels, 0), 1e-6)
    wanted = torch.from_numpy(np.nan_to_num(labels)).to(here)
    weight = torch.from_numpy(~np.isnan(labels)).to(here)
    network.train()
    network.scale(here, here.new_ones(len(here), 1))
    optimizer = torch.optim.AdamW(network.element.parameters(), lr=_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LR, total_steps=_STEPS, pct_start=_WARMUP
    )
    for _ in range(_STEPS):
        some = torch.randint(len(here), (_BATCH,), generator=generator).to(here.device)
        error = nn.functional.huber_loss(
            network.elements(here[some]), wanted[some], reduction="none"
        )
        optimizer.zero_grad()
        (error * weight[some]).mean().backward()
        optimizer.step()
        schedule.step()
    return True
