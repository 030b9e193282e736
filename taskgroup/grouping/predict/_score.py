"""How well a predictor foretells sets it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr, spearmanr

from taskgroup.errors import GroupingError
from taskgroup.grouping.candidates import Candidate
from taskgroup.grouping.predict._base import GainPredictor, SetArrays


@dataclass(frozen=True)
class PredictorScore:
    """Agreement of predicted and measured values on held-out sets.

    All are taken over (set, task) pairs of values relative to the task's mean over the trained sets, so that tasks of
    large losses count no more than others and knowing which task is hard earns nothing.

    Attributes:
        n: number of pairs.
        pearson, spearman: correlations; NaN where the predictor or the measurement is constant.
        mae: mean absolute error, 0.01 = one per cent of the task's mean.
        within_1, within_2: share of measurements within one and two spreads (calibrated: .683 and .954).
    """

    n: int
    pearson: float
    spearman: float
    mae: float
    within_1: float
    within_2: float


def score_predictor(
    predictor: GainPredictor, trained: Sequence[Candidate], held_out: Sequence[Candidate]
) -> PredictorScore:
    """Fit on ``trained``, predict ``held_out``, compare; GroupingError where fewer than two values are held out."""
    predictor.fit(trained)
    expected = predictor.predict(held_out)
    measured = SetArrays.of(held_out, predictor.tasks).values
    known = np.isfinite(measured)
    if known.sum() < 2:
        raise GroupingError(
            f"held-out sets must hold at least two measured values, found {known.sum()}"
        )
    scale = np.abs(np.where(predictor.level == 0, 1.0, predictor.level))
    truth = ((measured - predictor.level) / scale)[known]
    guess = ((expected.mean - predictor.level) / scale)[known]
    error = np.abs(truth - guess)
    spread = (expected.spread / scale)[known]
    varied = np.ptp(truth) > 0 and np.ptp(guess) > 1e-12
    return PredictorScore(
        n=int(known.sum()),
        pearson=float(pearsonr(truth, guess).statistic) if varied else float("nan"),
        spearman=float(spearmanr(truth, guess).statistic) if varied else float("nan"),
        mae=float(error.mean()),
        within_1=float((error <= spread).mean()),
        within_2=float((error <= 2 * spread).mean()),
    )
