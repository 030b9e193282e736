"""Studies side by side: the skill of their choices on the test rows that all of them kept aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Target
from taskgroup.errors import RunError
from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval, bootstrap_counts
from taskgroup.study.release import interval_of_draws, mean_draws
from taskgroup.tracking import find_run, read_final, read_study
from taskgroup.tracking.predictions import predictions_table
from taskgroup.training.metrics import weighted_metric

if TYPE_CHECKING:
    import pandas as pd

# 1,000 draws give 95 % bounds to about a twentieth of the interval's width.
_DRAWS = 1000
# Labels of one row that differ by less are the same number, written and read.
_SAME_LABEL = 1e-6
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """The choice of one study on the rows of a comparison.

    ``draws`` are the skill of each target on the rows, then on bootstrap draws of them, the same for every run.
    """

    name: str
    grouping: Grouping
    draws: dict[str, NDArray[np.float64]]

    def skill(self, target: str) -> Interval:
        """Return the skill of a target, or the mean over targets, with its 95 % interval."""
        return interval_of_draws(self._draws_of(target))

    def gain_over(self, other: "ComparedRun", target: str) -> Interval:
        """Return by how much this run is better than another, with its paired 95 % interval."""
        return interval_of_draws(self._draws_of(target) - other._draws_of(target))

    def _draws_of(self, target: str) -> NDArray[np.float64]:
        return mean_draws(self.draws) if target == MEAN else self.draws[target]


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Runs compared on common test rows; differences are to the first run."""

    runs: tuple[ComparedRun, ...]
    targets: tuple[str, ...]
    n_rows: int

    def frame(self) -> "pd.DataFrame":
        """Return one row per run and target (and their mean): skill, its bounds, the difference and its bounds."""
        import pandas as pd

        first = self.runs[0]
        lines = []
        for target in (*self.targets, MEAN):
            for run in self.runs:
                skill = run.skill(target)
                line = {"target": target, "run": run.name, "networks": len(run.grouping)}
                line |= {"skill": skill.mean, "low": skill.low, "high": skill.high}
                if run is not first:
                    gain = run.gain_over(first, target)
                    line |= {"difference": gain.mean}
                    line |= {"difference_low": gain.low, "difference_high": gain.high}
                lines.append(line)
        return pd.DataFrame(lines)


def side_by_side(runs: Sequence[str | Path]) -> SideBySide:
    """Compare studies that have ended on the test rows and targets that they share; nothing is trained.

    Raises RunError: fewer than two runs, one that has not ended, no common row or target, or labels that differ.
    """
    if len(runs) < 2:
        raise RunError(f"compare: two runs at least are needed, found {len(runs)}")
    folders = [find_run(run) for run in runs]
    tables = [_predictions(folder) for folder in folders]
    targets = _common_targets(folders, tables)
    ids = _common_ids(folders, tables)
    rows = [table.loc[ids] for table in tables]
    for folder, table in zip(folders[1:], rows[1:], strict=True):
        _check_labels(folders[0], folder, rows[0], table, targets)
    compared = []
    for name, folder, table in zip(_names(folders), folders, rows, strict=True):
        grouping = read_final(folder).grouping
        compared.append(ComparedRun(name, grouping, _skill_draws(table, targets)))
    return SideBySide(tuple(compared), targets, len(ids))


def _predictions(folder: Path) -> "pd.DataFrame":
    table = predictions_table(folder)
    if read_final(folder) is None or not len(table):
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    return table


def _common_targets(folders: Sequence[Path], tables: "Sequence[pd.DataFrame]") -> tuple[str, ...]:
    specs_of_first = tables[0].attrs["targets"]
    common = []
    for name, spec in specs_of_first.items():
        specs = [table.attrs["targets"].get(name) for table in tables]
        if None in specs:
            continue
        for folder, other in zip(folders, specs, strict=True):
            if other != spec:
                raise RunError(
                    f"{folder}: target '{name}' is {other}, but in {folders[0]} it is {spec}; "
                    "their skills mean different things"
                )
        common.append(name)
    if not common:
        raise RunError(f"compare: the runs share no target; {folders[0]} has {[*specs_of_first]}")
    return tuple(common)


def _common_ids(folders: Sequence[Path], tables: "Sequence[pd.DataFrame]") -> list[str]:
    """Return the rows that every run kept for its test: no run was trained on them."""
    ids = [row for row in tables[0].index if all(row in table.index for table in tables[1:])]
    if len(ids) < 2:
        raise RunError(
            f"compare: two common test rows at least are needed, found {len(ids)}; studies with equal 'split' on one "
            f"dataset have the same test rows ({folders[0]} has {len(tables[0])})"
        )
    return ids


def _check_labels(
    first: Path,
    other: Path,
    labels: "pd.DataFrame",
    others: "pd.DataFrame",
    targets: Sequence[str],
) -> None:
    for target in targets:
        a, b = labels[target].to_numpy(), others[target].to_numpy()
        differs = ~np.isclose(a, b, rtol=_SAME_LABEL, equal_nan=True)
        if differs.any():
            row = labels.index[int(differs.argmax())]
            raise RunError(
                f"compare: '{target}' of row '{row}' differs between {first} and {other}; they are not of one dataset"
            )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the names of the studies; where two are equal, the folders."""
    names = [read_study(folder).name for folder in folders]
    if len(set(names)) < len(names):
        return [str(folder) for folder in folders]
    return names


def _skill_draws(table: "pd.DataFrame", targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    counts = bootstrap_counts(len(table), _DRAWS, np.random.default_rng(0))
    weights = np.concatenate([np.ones((1, len(table))), counts])
    draws = {}
    for name in targets:
        spec = Target(name, **table.attrs["targets"][name])
        truth = table[name].to_numpy(dtype=float)
        predicted = table[f"{name}_predicted"].to_numpy(dtype=float)
        labelled = np.isfinite(truth)
        draws[name] = weighted_metric(
            spec, "skill", truth[labelled], predicted[labelled], weights[:, labelled]
        )
    return draws
