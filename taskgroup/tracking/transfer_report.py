"""The transfer report: what learning together gave each target, how sure that is, and whether any measure foretells it.

- A gain compares a target in a group with the same target alone: same recipe, same seed, same fold. Anything else would
  measure luck or tuning.
- Intervals are percentile bootstraps over repetitions (seeds and folds) and over materials, both networks of a
  comparison judged on the same draw.
- A gain whose interval holds zero is called noise, not gain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from taskgroup.affinity import Affinity
from taskgroup.tracking.gains import Gain, SetRun, bounds, measured_gains, pairwise_gains
from taskgroup.tracking.record import FinalRecord, write_json

if TYPE_CHECKING:
    from taskgroup.datasets import TargetTable

Row = dict[str, Any]


@dataclass(frozen=True)
class Foretelling:
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
        known = self.validation is not None and self.reevaluation is not None
        return self.validation - self.reevaluation if known else None


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Everything a study can say about who helped whom; ``unpaired`` counts groups without a matching single run."""

    gains: tuple[Gain, ...]
    pairwise: Affinity
    foretelling: tuple[Foretelling, ...]
    curse: WinnersCurse | None
    unpaired: int

    @property
    def negative(self) -> tuple[Gain, ...]:
        """The gains that are surely losses, worst first."""
        return tuple(
            sorted(
                (g for g in self.gains if g.verdict == "negative transfer"), key=lambda g: g.mean
            )
        )

    def gain_rows(self) -> list[Row]:
        """Rows ``{target, group, gain, low, high, runs, verdict}``, target by target, best gain first."""
        ordered = sorted(self.gains, key=lambda g: (g.target, -g.mean))
        return [
            {
                "target": g.target,
                "group": " + ".join(g.group),
                "gain": g.mean,
                "low": g.low,
                "high": g.high,
            }
            | {"runs": g.n, "verdict": g.verdict}
            for g in ordered
        ]

    def measure_rows(self) -> list[Row]:
        """Rows ``{measure, correlation, low, high, pairs}``, the best foreteller first."""
        ordered = sorted(
            self.foretelling, key=lambda f: -np.inf if f.correlation is None else f.correlation
        )[::-1]
        return [vars(f) | {} for f in ordered]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: ``gains``, ``negative``, ``measures``, ``winners_curse``, ``unpaired``."""
        curse = None if self.curse is None else vars(self.curse) | {"optimism": self.curse.optimism}
        negative = [
            {"target": g.target, "group": list(g.group), "gain": g.mean} for g in self.negative
        ]
        measures = {
            "gains": self.gain_rows(),
            "negative": negative,
            "measures": self.measure_rows(),
        }
        return measures | {"winners_curse": curse, "unpaired": self.unpaired}


def transfer_report(
    runs: Iterable[SetRun],
    affinities: Mapping[str, Affinity],
    table: "TargetTable | None" = None,
    final: FinalRecord | None = None,
    seed: int = 0,
) -> TransferReport:
    """Measured gains of every group trained, and how well each affinity ranks the pairwise ones.

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
    scores = [
        _foretelling(name, affinity, pairwise, draws, seed) for name, affinity in affinities.items()
    ]
    curse = None
    if final is not None:
        curse = WinnersCurse(final.search_value, final.reevaluation.mean, final.test_value.mean)
    return TransferReport(tuple(gains), pairwise, tuple(scores), curse, unpaired)


def write_transfer(report: TransferReport, folder: Path) -> None:
    """Write ``gains.csv``, ``measures.csv`` and ``transfer.json`` into a folder, made if missing."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(report.gain_rows()).to_csv(folder / "gains.csv", index=False)
    pd.DataFrame(report.measure_rows()).to_csv(folder / "measures.csv", index=False)
    write_json(folder / "transfer.json", report.to_dict())


def _foretelling(
    name: str, affinity: Affinity, gains: Affinity, draws: np.ndarray, seed: int
) -> Foretelling:
    """Rank correlation on the ordered pairs that both sides know, and its interval."""
    shared = [target for target in gains.names if target in affinity.names]
    at = np.array([gains.names.index(target) for target in shared], dtype=int)
    ours = affinity.select(shared).values if shared else np.empty((0, 0))
    theirs = gains.values[np.ix_(at, at)]
    known = np.isfinite(ours) & np.isfinite(theirs) & ~np.eye(len(shared), dtype=bool)
    value = _spearman(ours[known], theirs[known]) if known.sum() >= 3 else None
    random = np.random.default_rng(seed)
    sample = []
    for draw in draws if value is not None else ():
        times = np.bincount(random.integers(len(shared), size=len(shared)), minlength=len(shared))
        weight = np.outer(times, times)[known]
        if (
            weight > 0
        ).sum() >= 3:  # fewer pairs correlate perfectly or not at all, whatever they mean
            gains_drawn = draw[np.ix_(at, at)][known]
            sample.append(_spearman(np.repeat(ours[known], weight), np.repeat(gains_drawn, weight)))
    found = np.array([correlation for correlation in sample if correlation is not None])
    low, high = bounds(found) if len(found) else (None, None)
    return Foretelling(name, value, low, high, int(known.sum()))


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    ranks = [rankdata(v) - (len(v) + 1) / 2 for v in (x, y)]
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / scale) if scale > 0 else None
