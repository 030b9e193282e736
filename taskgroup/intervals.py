"""Confidence intervals: of a mean over repetitions, and of a statistic over bootstrap draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval over ``n`` repetitions (seeds, or bootstrap draws).

    A number that does not exist is None: the bounds of a single repetition, or of draws that are all undefined.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int = 0

    def excludes_zero(self) -> bool:
        """Return whether the whole interval lies on one side of zero."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


def student_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return mean and Student t interval of independent repetitions, such as trainings with different seeds."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Interval(mean, None, None, n)
    standard_error = np.std(values, ddof=1) / math.sqrt(n)
    half_width = float(stats.t.ppf((1 + level) / 2, n - 1) * standard_error)
    return Interval(mean, mean - half_width, mean + half_width, n)


def percentile_bounds(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws; undefined draws are left out, NaN where all are."""
    values = np.asarray(draws, dtype=np.float64)
    defined = values[np.isfinite(values)]
    if not len(defined):
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(value: float, draws: ArrayLike, level: float = LEVEL) -> Interval:
    """Return a value with the percentile interval of its bootstrap draws."""
    low, high = percentile_bounds(draws, level)
    return Interval(
        _finite_or_none(value), _finite_or_none(low), _finite_or_none(high), np.size(draws)
    )


def bootstrap_counts(n_rows: int, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each row stands in each bootstrap draw, [draws, rows]: weights that sum to ``n_rows``."""
    uniform = np.full(n_rows, 1 / n_rows)
    return random.multinomial(n_rows, uniform, size=draws).astype(np.float64)


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
