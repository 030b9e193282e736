"""Measured gains: a target in a group against the same target alone, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal
from scipy.stats import t as student

from taskgroup.affinity import Affinity
from taskgroup.intervals import LEVEL, bootstrap_counts, percentile_bounds
from taskgroup.training.metrics import weighted_metric

if TYPE_CHECKING:
    from taskgroup.datasets import TargetTable
    from taskgroup.training import GroupResult

# Enough for the 2.5 % tails: 25 draws lie beyond each bound.
DRAWS = 1000
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
    rows: NDArray[np.int64] | None = None
    predictions: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        result: "GroupResult",
        rows: NDArray[np.int64] | None = None,
        predictions: NDArray[np.float64] | None = None,
    ) -> "SetRun":
        """Return the run of a GroupResult."""
        job = result.job.to_dict()
        recipe = f"{job['model']}{job['training']}"
        repetition = f"seed {job['seed']} of split {job['split']}"
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
    draws: NDArray[np.float64] = field(repr=False)


_Pair = tuple[SetRun, SetRun]  # in company, alone


def measured_gains(
    runs: Sequence[SetRun], table: "TargetTable | None", seed: int
) -> tuple[list[Gain], int]:
    """Return the gain of every target in every group, and the number of groups without a single run to compare with."""
    pairs_by_gain = _paired(runs)
    counts = _Counts(seed)
    gains = []
    for (group, target), pairs in sorted(pairs_by_gain.items()):
        gains.append(_gain(group, target, pairs, table, counts))
    groups = {run.targets for run in runs if len(run.targets) > 1}
    compared_groups = {group for group, _ in pairs_by_gain}
    return gains, len(groups - compared_groups)


def pairwise_gains(
    gains: Sequence[Gain], names: tuple[str, ...]
) -> tuple[Affinity, NDArray[np.float64]]:
    """Return the measured gain of j from i as a directed affinity, and its draws ``[DRAWS, T, T]``.

    Taken from the pair {i, j} where it was trained, else the mean over all trained groups that hold both (mean over
    random subsets predicts a pair's worth: arXiv:2306.14009); NaN where no group did.
    """
    n = len(names)
    draws = np.full((DRAWS, n, n), np.nan)
    values = np.full((n, n), np.nan)
    spread = np.full((n, n), np.nan)
    for j, target in enumerate(names):
        gains_of_target = [gain for gain in gains if gain.target == target]
        for i, helper in enumerate(names):
            evidence = _evidence(gains_of_target, helper, target)
            if evidence:
                values[i, j] = np.mean([gain.mean for gain in evidence])
                draws[:, i, j] = np.mean([gain.draws for gain in evidence], axis=0)
                spread[i, j] = draws[:, i, j].std()
    return Affinity(names, values, measure="measured gain", spread=spread), draws


def _evidence(gains_of_target: Sequence[Gain], helper: str, target: str) -> list[Gain]:
    """Return the gains that tell what a helper does for a target: of their pair, else of all groups with both."""
    if helper == target:
        return []
    with_helper = [gain for gain in gains_of_target if helper in gain.group]
    of_pair = [gain for gain in with_helper if len(gain.group) == 2]
    return of_pair or with_helper


def _paired(runs: Sequence[SetRun]) -> dict[tuple[tuple[str, ...], str], list[_Pair]]:
    """Return, by group and target, the runs of the group with the single run of equal recipe, seed and fold."""
    singles = {}
    for run in runs:
        if len(run.targets) == 1:
            singles[run.targets[0], run.recipe, run.repetition] = run
    pairs: dict[tuple[tuple[str, ...], str], list[_Pair]] = {}
    for run in runs:
        if len(run.targets) == 1:
            continue
        for target in run.targets:
            single = singles.get((target, run.recipe, run.repetition))
            if single is None or run.skills.get(target) is None:
                continue
            if single.skills.get(target) is not None:
                pairs.setdefault((run.targets, target), []).append((run, single))
    return pairs


class _Counts:
    """Bootstrap counts of materials, the same for every run on the same rows: ``[DRAWS, rows]``."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._counts_by_rows: dict[bytes, NDArray[np.float64]] = {}

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        key = np.asarray(rows).tobytes()
        if key not in self._counts_by_rows:
            self._counts_by_rows[key] = bootstrap_counts(len(rows), DRAWS, self.random)
        return self._counts_by_rows[key]


def _gain(
    group: tuple[str, ...],
    target: str,
    pairs: Sequence[_Pair],
    table: "TargetTable | None",
    counts: _Counts,
) -> Gain:
    n = len(pairs)
    differences = np.array([run.skills[target] - single.skills[target] for run, single in pairs])
    mean = float(differences.mean())
    draws_by_run = np.stack([_draws(*pair, target, table, counts) for pair in pairs])
    # Redraw both sources of chance: which runs were made (between), and the materials they were judged on (within).
    drawn_runs = counts.random.integers(n, size=draws_by_run.shape)
    between = differences[drawn_runs].mean(axis=0) - mean
    deviations = draws_by_run - differences[:, None]
    within = np.take_along_axis(deviations, drawn_runs, axis=0).mean(axis=0)
    draws = mean + _few_runs_factor(n) * between + within
    low, high = None, None
    if n > 1 or np.ptp(draws_by_run) > 0:
        low, high = percentile_bounds(draws)
    return Gain(group, target, mean, low, high, n, _verdict(low, high, n), draws)


def _few_runs_factor(n: int) -> float:
    """Return what widens a percentile interval over ``n`` runs to that of Student's t.

    Plain percentiles over three runs would cover 75 %. Hesterberg 2015, doi:10.1080/00031305.2015.1089789, "expanded
    percentile interval".
    """
    if n < 2:
        return 0.0
    tail = (1 + LEVEL) / 2
    return float(student.ppf(tail, n - 1) / normal.ppf(tail) * np.sqrt(n / (n - 1)))


def _verdict(low: float | None, high: float | None, n: int) -> str:
    # A single run is not judged, even where it has an interval over materials: its seed may be the whole gain.
    if n < 2 or low is None or high is None:
        return "one run"
    if low > 0:
        return "gain"
    return "negative transfer" if high < 0 else "noise"


def _draws(
    run: SetRun, single: SetRun, target: str, table: "TargetTable | None", counts: _Counts
) -> NDArray[np.float64]:
    """Return draws over materials of one paired difference of skill; constant without predictions."""
    measured = float(run.skills[target] - single.skills[target])
    if table is None or run.predictions is None or single.predictions is None or run.rows is None:
        return np.full(DRAWS, measured)
    truth = table.column(target)[run.rows]
    labelled = ~np.isnan(truth)
    weights = counts(run.rows)[:, labelled]
    spec = table.spec(target)
    column = run.targets.index(target)
    in_company = run.predictions[labelled, column].astype(np.float64)
    alone = single.predictions[labelled, 0].astype(np.float64)
    difference = weighted_metric(spec, "skill", truth[labelled], in_company, weights)
    difference = difference - weighted_metric(spec, "skill", truth[labelled], alone, weights)
    # A draw with one class only has no AUC; it says nothing new.
    return np.nan_to_num(difference, nan=measured)
