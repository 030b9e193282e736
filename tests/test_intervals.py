"""Intervals against closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from taskgroup.intervals import (
    Interval,
    bootstrap_counts,
    bootstrap_interval,
    percentile_bounds,
    student_interval,
)


def test_a_student_interval_is_that_of_scipy():
    values = [0.2, 0.5, 0.9, 0.4]
    found = student_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.mean == pytest.approx(0.5)
    assert found.n == 4


def test_one_repetition_has_no_bounds():
    assert student_interval([0.3]) == Interval(0.3, None, None, 1)


def test_percentile_bounds_leave_undefined_draws_out():
    draws = np.concatenate([np.linspace(0, 1, 1001), [np.nan, np.inf]])
    assert percentile_bounds(draws, 0.9) == pytest.approx((0.05, 0.95))
    assert all(math.isnan(bound) for bound in percentile_bounds([np.nan]))
    assert bootstrap_interval(0.5, [np.nan, np.nan]) == Interval(0.5, None, None, 2)


def test_bootstrap_counts_sum_to_the_rows():
    counts = bootstrap_counts(7, 50, np.random.default_rng(0))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()


@pytest.mark.parametrize(
    ("interval", "excludes"),
    [
        (Interval(1, 0.5, 2), True),
        (Interval(-1, -2, -0.5), True),
        (Interval(0, -1, 1), False),
        (Interval(1, None, None), False),
    ],
)
def test_an_interval_knows_whether_it_excludes_zero(interval: Interval, excludes: bool):
    assert interval.excludes_zero() is excludes
