"""Uncertainty of predictions, measured on rows that the networks were not trained on."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets import Target

# Coverages of the prediction intervals that a bundle stores.
COVERAGES = (0.5, 0.68, 0.9, 0.95)


def conformal_widths(
    target: Target, truth: ArrayLike, predicted: ArrayLike
) -> dict[str, float] | None:
    """Return half the width of prediction intervals for each of ``COVERAGES``, in the space of the target's transform.

    Split conformal prediction (Lei et al., doi:10.1080/01621459.2017.1307116): the ceil((n + 1) coverage)-th smallest
    of the n absolute errors on rows no network was trained on. Such an interval covers at least its share of new rows
    drawn like these, whatever the networks are. Arguments and None as for ``residual_scale``; a coverage for which
    there are too few rows is left out.
    """
    errors = _errors(target, truth, predicted)
    if errors is None:
        return None
    sorted_sizes = np.sort(np.abs(errors))
    widths = {}
    for coverage in COVERAGES:
        rank = math.ceil((len(errors) + 1) * coverage)
        if rank <= len(sorted_sizes):
            widths[f"{coverage:g}"] = float(sorted_sizes[rank - 1])
    return widths


def residual_scale(target: Target, truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Return the root mean square error in the space of the target's transform, over rows no network was trained on.

    It is the part of a prediction's uncertainty that the members of an ensemble do not show by disagreeing.
    ``truth`` and ``predicted`` are [rows] in the target's unit, rows without a label are left out; None for a
    classification target, whose probability is its own uncertainty, and where no row has a label.
    """
    errors = _errors(target, truth, predicted)
    if errors is None:
        return None
    return float(np.sqrt(np.mean(errors**2)))


def _errors(target: Target, truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64] | None:
    """Return the errors of the rows with a label, in the space of the transform; None where there are none."""
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    labelled = np.isfinite(truth)
    if target.kind == "classification" or not labelled.any():
        return None
    return target.forward_predictions(predicted[labelled]) - target.forward(truth[labelled])
