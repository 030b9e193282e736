"""The choice of an epoch, and what the chosen weights are worth on rows that did not choose them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Target
from taskgroup.training.metrics import output_skills
from taskgroup.training.result import Skills

PARTS = 5


class BestEpochs:
    """The best epoch by all validation rows, and for each fifth of them the best by the other four.

    The best of many epochs looks too good on the rows that chose it: by little for a group of many targets, whose mean
    chose, by much for one target with few labels. Compared by such numbers, properties would seem better learned alone
    than they are. So a row's outputs are kept from the epoch that the other fifths chose (cross-fitting), and those are
    what a group is judged by.

    Parameters
    ----------
    specs: the targets, in the order of the columns.
    labels: standardised labels of the validation rows [rows, T], NaN where missing.
    systems: chemical system of each row; one system stays in one fifth.

    Attributes ``epochs`` and ``values`` [1 + PARTS] are the best epoch (from 1) and its mean skill, by all rows and by
    all but each fifth; ``outputs`` [rows, T] float32.
    """

    def __init__(self, specs: Sequence[Target], labels: NDArray, systems: Sequence[str]) -> None:
        self._specs, self.labels = specs, labels
        self._part = np.unique(list(systems), return_inverse=True)[1] % PARTS
        self._judges = np.concatenate(
            [np.ones((1, len(labels))), self._part != np.arange(PARTS)[:, None]]
        )
        self.epochs = np.zeros(1 + PARTS, dtype=np.int64)
        self.values = np.full(1 + PARTS, -np.inf)
        self.outputs = np.zeros(labels.shape, dtype=np.float32)

    @property
    def best(self) -> int:
        """The best epoch by all rows."""
        return int(self.epochs[0])

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Per row the epoch the other fifths chose."""
        return self.epochs[1:][self._part]

    def see(self, epoch: int, outputs: NDArray) -> Skills:
        """Note an epoch's outputs [rows, T]; the skill of each target on all rows (None: undefined)."""
        skills = output_skills(self._specs, self.labels, outputs, self._judges)
        there = np.isfinite(skills)
        clipped = np.where(there, np.maximum(skills, -1.0), 0.0)
        with np.errstate(invalid="ignore"):
            values = clipped.sum(1) / there.sum(1)
        better = ~(
            values <= self.values
        )  # also where the value is NaN: the last epoch is kept then
        self.values = np.where(better, np.where(np.isfinite(values), values, -np.inf), self.values)
        self.epochs[better] = epoch
        rows = better[1:][self._part]
        self.outputs[rows] = outputs[rows]
        return {
            spec.name: float(s) if np.isfinite(s) else None
            for spec, s in zip(self._specs, skills[0], strict=True)
        }
