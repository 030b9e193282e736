"""Measured gains: a target in a group against the same target alone, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student

from taskgroup.affinity import Affinity
from taskgroup.training.metrics import weighted_metric

if TYPE_CHECKING:
    from taskgroup.datasets import TargetTable
    from taskgroup.training import GroupResult

DRAWS = 1000
LEVEL = 0.95
VERDICTS = ("gain", "negative transfer", "noise", "one run")


@dataclass(frozen=True, eq=False)
class SetRun:
    """One network of a study, reduced to what a comparison needs.

    - targets, skills: what was trained together, and the validation skill of each.
    - recipe: equal recipes (hyper-parameters) may be compared.
    - repetition: seed and fold, as text; runs with equal ones are compared with each other.
    - rows: the validation rows, shared by all runs of a fold; predictions ``[rows, T]`` in units, or None: the interval
      is then over repetitions only.
    """

    targets: tuple[str, ...]
    skills: Mapping[str, float | None]
    recipe: str
    repetition: str
    rows: np.ndarray | None = None
    predictions: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        result: "GroupResult",
        rows: np.ndarray | None = None,
        predictions: np.ndarray | None = None,
    ) -> "SetRun":
        """The run of a GroupResult."""
        job = result.job.to_dict()
        split = job["split"]
        recipe = f"{job['model']}{job['training']}"
        repetition = f"seed {job['seed']} of split {split}"
        return cls(result.targets, result.skills, recipe, repetition, rows, predictions)


@dataclass(frozen=True, eq=False)
class Gain:
    """Skill of ``target`` in ``group`` minus its skill alone.

    ``mean`` is over ``n`` paired runs; ``low`` and ``high`` are None where a single run gives no interval.
    ``verdict`` is one of ``VERDICTS``; ``draws`` ``[DRAWS]`` are the bootstrap draws of the mean.
    """

    group: tuple[str, ...]
    target: str
    mean: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    draws: np.ndarray = field(repr=False)


def measured_gains(
    runs: Sequence[SetRun], table: "TargetTable | None", seed: int
) -> tuple[list[Gain], int]:
    """The gain of every target in every group, and the number of groups that have no single run to compare with."""
    alone = {
        (run.targets[0], run.recipe, run.repetition): run for run in runs if len(run.targets) == 1
    }
    paired: dict[tuple[tuple[str, ...], str], list[tuple[SetRun, SetRun]]] = {}
    groups = {run.targets for run in runs if len(run.targets) > 1}
    for run in runs:
        for target in run.targets if len(run.targets) > 1 else ():
            single = alone.get((target, run.recipe, run.repetition))
            if (
                single
                and run.skills.get(target) is not None
                and single.skills.get(target) is not None
            ):
                paired.setdefault((run.targets, target), []).append((run, single))
    counts = _Counts(seed)
    gains = [
        _gain(group, target, pairs, table, counts)
        for (group, target), pairs in sorted(paired.items())
    ]
    return gains, len(groups - {group for group, _ in paired})


def pairwise_gains(gains: Sequence[Gain], names: tuple[str, ...]) -> tuple[Affinity, np.ndarray]:
    """Measured gain of j from i as a directed affinity, and its draws ``[DRAWS, T, T]``.

    Taken from the pair {i, j} where it was trained, else the mean over all trained groups that hold both (mean over
    random subsets predicts a pair's worth: arXiv:2306.14009); NaN where no group did.
    """
    at = {name: i for i, name in enumerate(names)}
    draws = np.full((DRAWS, len(names), len(names)), np.nan)
    values, spread = np.full((2, len(names), len(names)), np.nan)
    for target in names:
        own = [gain for gain in gains if gain.target == target]
        for helper in names:
            both = [gain for gain in own if helper in gain.group and helper != target]
            both = [gain for gain in both if len(gain.group) == 2] or both
            if both:
                i, j = at[helper], at[target]
                values[i, j] = np.mean([gain.mean for gain in both])
                draws[:, i, j] = np.mean([gain.draws for gain in both], axis=0)
                spread[i, j] = draws[:, i, j].std()
    return Affinity(names, values, measure="measured gain", spread=spread), draws


class _Counts:
    """Bootstrap counts of materials, the same for every run on the same rows: ``[DRAWS, rows]``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self._of: dict[bytes, np.ndarray] = {}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        key = np.asarray(rows).tobytes()
        if key not in self._of:
            even = np.full(len(rows), 1 / len(rows))
            self._of[key] = self.random.multinomial(len(rows), even, size=DRAWS).astype(float)
        return self._of[key]


def _gain(
    group: tuple[str, ...],
    target: str,
    pairs: Sequence[tuple[SetRun, SetRun]],
    table: "TargetTable | None",
    counts: _Counts,
) -> Gain:
    differences = np.array([run.skills[target] - single.skills[target] for run, single in pairs])
    by_run = np.stack([_draws(*pair, target, table, counts) for pair in pairs])  # [runs, DRAWS]
    chosen = counts.random.integers(len(pairs), size=by_run.shape)
    between = differences[chosen].mean(axis=0) - differences.mean()
    within = np.take_along_axis(by_run - differences[:, None], chosen, axis=0).mean(axis=0)
    draws = differences.mean() + _few_runs_factor(len(pairs)) * between + within
    mean = float(differences.mean())
    low, high = bounds(draws) if len(pairs) > 1 or np.ptp(by_run) > 0 else (None, None)
    return Gain(group, target, mean, low, high, len(pairs), _verdict(low, high, len(pairs)), draws)


def _few_runs_factor(n: int) -> float:
    """What widens a percentile interval over ``n`` runs to that of Student's t: plain, three runs would cover 75 %.

    Hesterberg 2015, doi:10.1080/00031305.2015.1089789, "expanded percentile interval".
    """
    if n < 2:
        return 0.0
    tail = (1 + LEVEL) / 2
    return float(student.ppf(tail, n - 1) / normal.ppf(tail) * np.sqrt(n / (n - 1)))


def _verdict(low: float | None, high: float | None, n: int) -> str:
    """A single run is not judged, even where it has an interval over materials: its seed may be the whole gain."""
    if n < 2 or low is None or high is None:
        return "one run"
    return "gain" if low > 0 else "negative transfer" if high < 0 else "noise"


def _draws(
    run: SetRun, single: SetRun, target: str, table: "TargetTable | None", counts: _Counts
) -> np.ndarray:
    """Draws over materials of one paired difference of skill; constant without predictions."""
    measured = float(run.skills[target] - single.skills[target])
    if table is None or run.predictions is None or single.predictions is None or run.rows is None:
        return np.full(DRAWS, measured)
    truth = table.column(target)[run.rows]
    there = ~np.isnan(truth)
    weights = counts(run.rows)[:, there]
    spec = table.spec(target)
    in_group = run.predictions[there, run.targets.index(target)]
    alone = single.predictions[there, 0]
    with_others = weighted_metric(spec, "skill", truth[there], in_group, weights)
    by_itself = weighted_metric(spec, "skill", truth[there], alone, weights)
    return np.nan_to_num(
        with_others - by_itself, nan=measured
    )  # a draw with one class only says nothing new


def bounds(draws: np.ndarray) -> tuple[float, float]:
    """The percentile interval of draws, at ``LEVEL``."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
