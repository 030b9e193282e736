"""Early stopping and cross-fitting: the best epoch, and outputs of rows that did not choose it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Target
from taskgroup.training.metrics import output_skills
from taskgroup.training.result import Skills

N_PARTS = 5


class BestEpochs:
    """The best epoch by all validation rows, and for each fifth of them the best epoch by the other four.

    The best of many epochs looks too good on the rows that chose it: by little for a group of many targets, whose mean
    chose, by much for one target with few labels. Compared by such numbers, properties would seem better learned alone
    than they are. So a row's outputs are kept from the epoch that the other fifths chose (cross-fitting), and those are
    what a group is judged by.

    Parameters
    ----------
    specs: the targets, in the order of the columns.
    labels: standardised labels of the validation rows [rows, T], NaN where missing.
    systems: chemical system of each row; one system stays in one fifth.

    Attributes
    ----------
    epochs, values: [1 + N_PARTS], best epoch (from 1) and its mean skill, by all rows and by all but each fifth.
    outputs: [rows, T] float32, of each row's cross-fitted epoch.
    """

    def __init__(self, specs: Sequence[Target], labels: NDArray, systems: Sequence[str]) -> None:
        self._specs = specs
        self.labels = labels
        _, system_numbers = np.unique(list(systems), return_inverse=True)
        self._part = system_numbers % N_PARTS
        self._judges = self._judge_weights()
        self.epochs = np.zeros(1 + N_PARTS, dtype=np.int64)
        self.values = np.full(1 + N_PARTS, -np.inf)
        self.outputs = np.zeros(labels.shape, dtype=np.float32)

    def _judge_weights(self) -> NDArray[np.float64]:
        """Return the weight of each row for each judge, [1 + N_PARTS, rows]: all rows, then all but each fifth."""
        all_rows = np.ones((1, len(self._part)))
        all_but_one_part = self._part != np.arange(N_PARTS)[:, None]
        return np.concatenate([all_rows, all_but_one_part])

    @property
    def best(self) -> int:
        """The best epoch by all rows."""
        return int(self.epochs[0])

    @property
    def cross_fitted(self) -> NDArray[np.int64]:
        """Per row the best epoch by the other fifths."""
        return self.epochs[1:][self._part]

    def update(self, epoch: int, outputs: NDArray) -> Skills:
        """Compare an epoch by its outputs [rows, T]; return the skill of each target on all rows (None: undefined)."""
        skills = output_skills(self._specs, self.labels, outputs, self._judges)
        values = _mean_over_targets(skills)
        # A value of NaN (no skill is defined) counts as better too: the last epoch is kept then.
        is_better = ~(values <= self.values)
        comparable = np.where(np.isfinite(values), values, -np.inf)
        self.values = np.where(is_better, comparable, self.values)
        self.epochs[is_better] = epoch
        rows_to_replace = is_better[1:][self._part]
        self.outputs[rows_to_replace] = outputs[rows_to_replace]
        return self._by_name(skills[0])

    def _by_name(self, skills: NDArray) -> Skills:
        names = [spec.name for spec in self._specs]
        numbers = [float(skill) if np.isfinite(skill) else None for skill in skills]
        return dict(zip(names, numbers, strict=True))


def _mean_over_targets(skills: NDArray) -> NDArray:
    """Return mean skills [judges] of skills [judges, T], as ``metrics.mean_skill`` does; NaN where none is defined."""
    is_defined = np.isfinite(skills)
    clipped = np.where(is_defined, np.maximum(skills, -1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return clipped.sum(1) / is_defined.sum(1)
