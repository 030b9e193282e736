"""The transfer report: what learning together gave each target, how sure that is, and whether any measure predicts it.

- A gain compares a target in a group with the same target alone: same recipe, same seed, same fold. Anything else would
  measure luck or tuning.
- Intervals are percentile bootstraps over repetitions (seeds and folds) and over materials, both networks of a
  comparison judged on the same draw.
- A gain whose interval holds zero is called noise, not gain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from taskgroup.affinity import Affinity
from taskgroup.files import write_frame, write_json, write_text
from taskgroup.intervals import percentile_bounds
from taskgroup.tracking.gains import Gain, SetRun, measured_gains, pairwise_gains
from taskgroup.tracking.record import FinalRecord

if TYPE_CHECKING:
    from taskgroup.datasets import TargetTable

Row = dict[str, Any]

# Fewer pairs correlate perfectly or not at all, whatever they mean.
_FEWEST_PAIRS = 3


@dataclass(frozen=True)
class MeasureScore:
    """Spearman rank correlation of a measure with the measured pairwise gains, over ``pairs`` ordered pairs.

    The interval redraws both the targets and the gains (within their own uncertainty).
    """

    measure: str
    correlation: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclass(frozen=True)
class WinnersCurse:
    """The value the choice was made by, the same networks' recipe with new seeds, and the test rows.

    ``optimism`` is how much of the first was luck: validation minus re-evaluation.
    """

    validation: float | None
    reevaluation: float | None
    test: float | None

    @property
    def optimism(self) -> float | None:
        """Validation minus re-evaluation."""
        if self.validation is None or self.reevaluation is None:
            return None
        return self.validation - self.reevaluation


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Everything a study can say about who helped whom; ``unpaired`` counts groups without a matching single run."""

    gains: tuple[Gain, ...]
    pairwise: Affinity
    measures: tuple[MeasureScore, ...]
    curse: WinnersCurse | None
    unpaired: int

    @property
    def negative(self) -> tuple[Gain, ...]:
        """The gains that are surely losses, worst first."""
        losses = [gain for gain in self.gains if gain.verdict == "negative transfer"]
        return tuple(sorted(losses, key=lambda gain: gain.mean))

    def gain_rows(self) -> list[Row]:
        """Return rows ``{target, group, gain, low, high, runs, verdict}``, target by target, best gain first."""
        rows = []
        for gain in sorted(self.gains, key=lambda gain: (gain.target, -gain.mean)):
            row = {"target": gain.target, "group": " + ".join(gain.group)}
            row |= {"gain": gain.mean, "low": gain.low, "high": gain.high}
            row |= {"runs": gain.n, "verdict": gain.verdict}
            rows.append(row)
        return rows

    def measure_rows(self) -> list[Row]:
        """Return rows ``{measure, correlation, low, high, pairs}``, the best predictor first."""
        ranked = sorted(self.measures, key=_correlation)
        return [asdict(score) for score in reversed(ranked)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: ``gains``, ``negative``, ``measures``, ``winners_curse``, ``unpaired``."""
        curse = None
        if self.curse is not None:
            curse = asdict(self.curse) | {"optimism": self.curse.optimism}
        negative = []
        for gain in self.negative:
            negative.append({"target": gain.target, "group": list(gain.group), "gain": gain.mean})
        return {
            "gains": self.gain_rows(),
            "negative": negative,
            "measures": self.measure_rows(),
            "winners_curse": curse,
            "unpaired": self.unpaired,
        }


def transfer_report(
    runs: Iterable[SetRun],
    affinities: Mapping[str, Affinity],
    table: "TargetTable | None" = None,
    final: FinalRecord | None = None,
    seed: int = 0,
) -> TransferReport:
    """Return the measured gains of every group trained, and how well each affinity ranks the pairwise ones.

    Args:
        runs: all networks of a study; singles and groups.
        affinities: name -> affinity whose ``values[helper, affected]`` should rank gains (take magnitudes of signed
            label correlations: a strong negative one shares as much).
        table: labels of the dataset, for draws over materials; without it, or without predictions, only over runs.
        final: the end of the study, for the winner's curse.
        seed: of the draws.
    """
    gains, unpaired = measured_gains(list(runs), table, seed)
    names = tuple(sorted({name for gain in gains for name in gain.group}))
    pairwise, draws = pairwise_gains(gains, names)
    scores = []
    for name, affinity in affinities.items():
        scores.append(_measure_score(name, affinity, pairwise, draws, seed))
    curse = None
    if final is not None:
        curse = WinnersCurse(final.search_value, final.reevaluation.mean, final.test_value.mean)
    return TransferReport(tuple(gains), pairwise, tuple(scores), curse, unpaired)


def write_transfer(report: TransferReport, folder: Path) -> None:
    """Write ``gains.csv``, ``measures.csv``, ``pairwise.json`` and ``transfer.json`` into a folder, made if missing."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    write_frame(folder / "gains.csv", pd.DataFrame(report.gain_rows()))
    write_frame(folder / "measures.csv", pd.DataFrame(report.measure_rows()))
    write_text(folder / "pairwise.json", report.pairwise.to_json())
    write_json(folder / "transfer.json", report.to_dict(), indent=1)


def _correlation(score: MeasureScore) -> float:
    """Return a sort key: measures without a correlation rank last."""
    return -np.inf if score.correlation is None else score.correlation


def _measure_score(
    name: str, affinity: Affinity, gains: Affinity, draws: NDArray[np.float64], seed: int
) -> MeasureScore:
    """Return the rank correlation on the ordered pairs that measure and gains both know, and its interval."""
    shared = [target for target in gains.names if target in affinity.names]
    index = np.array([gains.names.index(target) for target in shared], dtype=int)
    predicted = np.empty((0, 0))
    if shared:
        predicted = affinity.select(shared).values
    measured = gains.values[np.ix_(index, index)]
    off_diagonal = ~np.eye(len(shared), dtype=bool)
    known = np.isfinite(predicted) & np.isfinite(measured) & off_diagonal
    n_pairs = int(known.sum())
    correlation, low, high = None, None, None
    if n_pairs >= _FEWEST_PAIRS:
        correlation = _spearman(predicted[known], measured[known])
    if correlation is not None:
        shared_draws = draws[:, index[:, None], index]
        low, high = _correlation_bounds(predicted, shared_draws, known, seed)
    return MeasureScore(name, correlation, low, high, n_pairs)


def _correlation_bounds(
    predicted: NDArray[np.float64],
    draws: NDArray[np.float64],
    known: NDArray[np.bool_],
    seed: int,
) -> tuple[float | None, float | None]:
    """Return the percentile interval over draws of the targets (with replacement) and of the gains."""
    random = np.random.default_rng(seed)
    n_targets = len(predicted)
    correlations = []
    for gains_drawn in draws:
        drawn_targets = random.integers(n_targets, size=n_targets)
        times = np.bincount(drawn_targets, minlength=n_targets)
        # A pair counts as often as both its targets were drawn together.
        weight = np.outer(times, times)[known]
        if (weight > 0).sum() < _FEWEST_PAIRS:
            continue
        repeated_prediction = np.repeat(predicted[known], weight)
        repeated_gain = np.repeat(gains_drawn[known], weight)
        correlation = _spearman(repeated_prediction, repeated_gain)
        if correlation is not None:
            correlations.append(correlation)
    if not correlations:
        return None, None
    return percentile_bounds(correlations)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation; None where one side is constant."""
    x_ranks = rankdata(x) - (len(x) + 1) / 2
    y_ranks = rankdata(y) - (len(y) + 1) / 2
    scale = np.sqrt((x_ranks @ x_ranks) * (y_ranks @ y_ranks))
    if scale == 0:
        return None
    return float(x_ranks @ y_ranks / scale)
