"""Means of many probe matrices of one training run, or of several seeds."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from taskgroup.affinity.affinity import Affinity
from taskgroup.errors import GroupingError


class Accumulator:
    """Averages [T, T] probes of one training run; NaN entries (a target without labels in a batch) are left out.

    Nothing is moved to the host before `checkpoint`, so that a probe does not wait for the device.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._sums: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._sum: Tensor | None = None
        self._count: Tensor | None = None

    def add(self, probe: Tensor) -> None:
        """Add one probe [T, T]; row = helper, column = affected."""
        is_known = probe.isfinite()
        value = torch.where(is_known, probe, 0.0).double()
        if self._sum is None:
            self._sum = value
            self._count = is_known.long()
        else:
            self._sum = self._sum + value
            self._count = self._count + is_known

    def checkpoint(self) -> None:
        """Close a stretch of training (an epoch); the spread is taken between such stretches."""
        if self._sum is not None:
            self._sums.append(self._sum.cpu().numpy())
            self._counts.append(self._count.cpu().numpy())
            self._sum = self._count = None

    def affinity(self, measure: str) -> Affinity:
        """Return the mean over all probes, with the standard deviation of the checkpoints' means as spread.

        Raises GroupingError if nothing was added: the run was shorter than the distance of two probes.
        """
        self.checkpoint()
        if not self._sums:
            raise GroupingError(
                f"affinity '{measure}': at least one probe is needed, but the run ended before the first"
            )
        sums, counts = np.stack(self._sums), np.stack(self._counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum(axis=0) / counts.sum(axis=0)
            spread = nan_std(sums / counts)
        return Affinity(self.names, mean, measure=measure, spread=spread)


def combine(affinities: Sequence[Affinity]) -> Affinity:
    """Return one affinity out of several seeds: the mean, with the standard deviation between seeds as spread.

    The p-value of a two-sided t-test asks whether the mean over seeds differs from zero; it is NaN for a single seed.
    Raises GroupingError where names or measures differ.
    """
    from scipy.stats import t as student

    kinds = {(a.names, a.measure) for a in affinities}
    if len(kinds) != 1:
        raise GroupingError(
            f"affinities to combine must share names and measure, but got {len(kinds)} different ones"
        )
    values = np.stack([a.values for a in affinities])
    n_seeds = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=0) / n_seeds
        spread = nan_std(values)
        standard_error = spread / np.sqrt(n_seeds)
        p = 2 * student.sf(np.abs(mean) / standard_error, n_seeds - 1)
    p = np.where(n_seeds > 1, p, np.nan)
    first = affinities[0]
    return Affinity(first.names, mean, p, first.n, first.measure, spread)


def relative(affinity: Affinity) -> Affinity:
    """Return each number over the affected target's own, ``values[i, j] / values[j, j]``.

    A value of 1 is as good as a step of its own.

    Look-ahead affinities are of the size of the step; this puts them on the scale of a threshold between -1 and 1.
    A target that its own step does not improve has no scale: NaN.
    """
    own = np.diag(affinity.values)
    scale = np.where(own > 0, own, np.nan)
    return Affinity(
        affinity.names,
        affinity.values / scale,
        affinity.p,
        affinity.n,
        f"relative {affinity.measure}",
        affinity.spread / scale,
    )


def nan_std(stack: np.ndarray) -> np.ndarray:
    """Return standard deviations (n - 1) over the first axis without NaN; NaN where fewer than two are left."""
    is_known = np.isfinite(stack)
    n = is_known.sum(axis=0)
    mean = np.where(is_known, stack, 0.0).sum(axis=0) / np.maximum(n, 1)
    squares = np.where(is_known, (stack - mean) ** 2, 0.0).sum(axis=0)
    return np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
