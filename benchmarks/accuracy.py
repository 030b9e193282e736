"""How well properties come out on test rows: forests, every target alone, all in one, groupings; fold by fold.

    python benchmarks/accuracy.py studies/eight_properties.yaml [--folds 0 1] [--out DIR] [--set K=V] [--no-search]
        [--cut TARGET=N] [--scored STORE]

For each test fold the study is run (or gone on with), then the groupings of ``taskgroup.study.compare`` are refitted
with the same seeds and members and tested on the fold. The forests see the same training and validation rows: one reads
statistics of the elements in the formula (the usual baseline), one the numbers of ``taskgroup.models.describe`` (the
density alone). Chemical systems are never shared between train and test. Numbers are R2 in the space of the target's
transform, AUC for classes, over all test rows of the folds together; the mean is of skills (2 AUC - 1 for classes), and
the interval of a difference to every target alone is a paired bootstrap over test rows, fold by fold.

The last table shows the skill by the size of the cell: on test rows with at most 12 atoms, 13 to 24, and more.

``--cut`` leaves a target N labels outside the test fold, drawn at random: what does a poor target gain from rich ones?
``--scored`` counts only test rows that are also in another store: train on all rows, compare on the usual ones.
"""

import argparse
import json
import re
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from taskgroup.datasets import load_dataset, write_store
from taskgroup.datasets.composition import STATISTICS, composition_statistics
from taskgroup.datasets.extensive import atom_counts
from taskgroup.models import descriptors
from taskgroup.spec import load_study
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.study.compare import compare, compare_unsearched, held_out_rows
from taskgroup.study.release import skill_draws
from taskgroup.training.metrics import weighted_metric

Draws = dict[str, NDArray[np.float64]]
FORESTS = ("composition forest", "descriptor forest")
# Most atoms of the cells in a class; the last class has no bound.
SIZE_CLASSES = {"<= 12": 12, "13-24": 24, "> 24": np.inf}
FEWEST_ROWS = 20
"""Labels of a target in a class below which a skill says nothing."""


def composition_numbers(formulas: Sequence[str]) -> NDArray[np.float64]:
    """What the composition forest sees: statistics of element properties, their ranges, and how many elements."""
    statistics = np.nan_to_num(composition_statistics(formulas))
    *_, least, largest = np.split(statistics, len(STATISTICS), axis=1)
    counts = [len(set(re.findall("[A-Z][a-z]?", formula))) for formula in formulas]
    return np.column_stack([statistics, largest - least, counts])


@dataclass(frozen=True)
class Tested:
    """A way to predict on one test fold: draws of each target's skill, and the skills by size class of the cells."""

    draws: Draws
    by_size: dict[str, dict[str, float]]


def forest_predictions(
    data: StudyData, numbers: NDArray, rows: NDArray, extra: bool
) -> pd.DataFrame:
    """Predictions of forests trained on all rows but the test fold's, a column a target."""
    known_rows = np.setdiff1d(np.arange(len(data.dataset)), held_out_rows(data))
    columns = {}
    for spec in data.targets.specs:
        column = data.targets.column(spec.name)
        train = known_rows[np.isfinite(column[known_rows])]
        settings = {
            "n_estimators": 300,
            "min_samples_leaf": 2,
            "max_features": 0.4,
            "n_jobs": 2,
            "random_state": 0,
        }
        if spec.kind == "classification":
            forest = (ExtraTreesClassifier if extra else RandomForestClassifier)(**settings)
            forest.fit(numbers[train], column[train])
            columns[spec.name] = forest.predict_proba(numbers[rows])[:, 1]
        else:
            forest = (ExtraTreesRegressor if extra else RandomForestRegressor)(**settings)
            forest.fit(numbers[train], spec.forward(column[train]))
            predicted = spec.inverse(forest.predict(numbers[rows]))
            # Extensive targets are learnt per atom; what is compared is of the cell.
            natural = data.dataset.targets.spec(spec.name)
            species = [data.dataset.species[row] for row in rows]
            columns[spec.name] = predicted * atom_counts(natural, species)
    frame = pd.DataFrame(columns)
    frame.attrs["units"] = {spec.name: spec.unit for spec in data.targets.specs}
    return frame


def tested(predictions: pd.DataFrame, data: StudyData, rows: NDArray) -> Tested:
    """What predictions for these rows are worth, in all and by size class."""
    n_atoms = np.array([len(data.dataset.species[row]) for row in rows])
    by_size: dict[str, dict[str, float]] = {}
    least = 0
    for name, most in SIZE_CLASSES.items():
        chosen = np.flatnonzero((n_atoms > least) & (n_atoms <= most))
        by_size[name] = _skills(predictions.iloc[chosen], data, rows[chosen])
        least = most
    return Tested(skill_draws(predictions, data, rows), by_size)


def _skills(predictions: pd.DataFrame, data: StudyData, rows: NDArray) -> dict[str, float]:
    """Skill of each target on these rows; NaN where too few are labelled."""
    skills = {}
    for spec in data.targets.specs:
        truth = data.dataset.targets.column(spec.name)[rows]
        labelled = np.isfinite(truth)
        skills[spec.name] = np.nan
        if labelled.sum() >= FEWEST_ROWS:
            predicted = predictions[spec.name].to_numpy(dtype=float)[labelled]
            once = np.ones((1, int(labelled.sum())))
            found = weighted_metric(spec, "skill", truth[labelled], predicted, once)
            skills[spec.name] = float(found[0])
    return skills


def run_fold(
    source: str,
    fold: int,
    out: Path,
    overrides: tuple[str, ...],
    search: bool,
    cuts: dict[str, int],
    scored: Container[str] | None,
) -> dict[str, Tested]:
    """Everything that is compared on one test fold, by name; the study stays in ``out/fold-N``."""
    folder = out / f"fold-{fold}"
    folds = load_study(source, overrides).split.folds
    settings = (
        *overrides,
        f"split.test_fold={fold}",
        f"split.validation_folds=[{(fold + 1) % folds}]",
    )
    if cuts:
        settings = (
            *settings,
            f"dataset={_cut(StudyData(load_study(source, settings)), cuts, out / f'data-{fold}')}",
        )
    study = Study.from_yaml(source, settings, folder=folder)
    if search:
        (study.resume if (folder / "study.json").exists() else study.run)()
    data = StudyData(study.config)
    rows = held_out_rows(data, scored)
    compared = (
        compare(folder, scored) if search else compare_unsearched(folder, study.config, scored)
    )
    magnetisation = study.config.space.model.get("magnetisation", True)
    forests = {
        "composition forest": (composition_numbers(data.dataset.formulas), False),
        "descriptor forest": (_descriptors(data, out, magnetisation), True),
    }
    predictions = {
        name: forest_predictions(data, numbers, rows, extra)
        for name, (numbers, extra) in forests.items()
    }
    predictions |= {each.name: each.predictions for each in compared}
    return {name: tested(frame, data, rows) for name, frame in predictions.items()}


def _cut(data: StudyData, cuts: dict[str, int], path: Path) -> Path:
    """A store with the labels of some targets cut outside the test fold."""
    if not path.exists():
        dataset, rows = (
            data.dataset,
            np.setdiff1d(np.arange(len(data.dataset)), held_out_rows(data)),
        )
        for target, n in cuts.items():
            dataset = dataset.with_labels_cut(target, n, rows=rows)
        write_store(path, dataset)
    return path


def _descriptors(data: StudyData, out: Path, magnetisation: bool) -> NDArray:
    """The numbers of all rows, of the same channels of the density that the networks see."""
    channels = data.dataset.n_channels if magnetisation else 1
    path = out / f"descriptors-{data.dataset.inputs_hash[:12]}-{channels}.npy"
    if not path.exists():
        numbers: dict[int, NDArray] = {}
        for rows, densities in data.dataset.density_batches():
            parts = descriptors(densities[:, :channels], data.dataset.lattices[rows])
            numbers |= zip(rows.tolist(), parts, strict=True)
        np.save(path, np.stack([numbers[row] for row in sorted(numbers)]), allow_pickle=False)
    return np.load(path, allow_pickle=False)


def summary(folds: list[dict[str, Tested]]) -> dict[str, Any]:
    """Per strategy: mean over folds of each target's skill, of the mean skill, and its difference to ``singles``.

    ``by_size``: the same skills by size class of the cells, and their mean.
    """
    names = [name for name in folds[0] if all(name in fold for fold in folds)]
    targets = list(folds[0][names[0]].draws)

    def mean_draws(name: str) -> NDArray:
        return np.mean(
            [
                np.nanmean([np.clip(fold[name].draws[t], -1, None) for t in targets], axis=0)
                for fold in folds
            ],
            axis=0,
        )

    found = {}
    for name in names:
        skills = {t: float(np.nanmean([fold[name].draws[t][0] for fold in folds])) for t in targets}
        mean = mean_draws(name)
        row = {
            "skills": skills,
            "mean": float(mean[0]),
            "low": _at(mean, 0.025),
            "high": _at(mean, 0.975),
            "by_size": {size: _size_skills(folds, name, size) for size in SIZE_CLASSES},
        }
        if "singles" in names:
            gain = mean - mean_draws("singles")
            row |= {
                "gain": float(gain[0]),
                "gain_low": _at(gain, 0.025),
                "gain_high": _at(gain, 0.975),
            }
        found[name] = row
    return found


def _size_skills(folds: list[dict[str, Tested]], name: str, size: str) -> dict[str, float]:
    """Mean over folds of the skills in one size class, without targets that have too few labels there."""
    skills = {}
    for target in folds[0][name].draws:
        of_folds = [fold[name].by_size[size][target] for fold in folds]
        if np.isfinite(of_folds).any():
            skills[target] = float(np.nanmean(of_folds))
    return skills


def _at(draws: NDArray, level: float) -> float:
    return float(np.nanquantile(draws[1:], level))


def show(found: dict[str, Any], seconds: float) -> None:
    """One table, a column a strategy."""
    table = Table("target (skill)", *found, box=None)
    for target in next(iter(found.values()))["skills"]:
        table.add_row(target, *(f"{row['skills'][target]:.3f}" for row in found.values()))
    table.add_section()
    table.add_row(
        "mean",
        *(f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in found.values()),
    )
    if "singles" in found:
        cells = (
            f"{row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]"
            for row in found.values()
        )
        table.add_row("against singles", *cells)
    console = Console(width=200)
    console.print(table)
    console.print(size_table(found))
    console.print(f"{seconds:.0f} s")


def size_table(found: dict[str, Any]) -> Table:
    """Skill by size class of the last strategy, a row a target, and the mean over targets that all classes have."""
    name, row = list(found.items())[-1]
    table = Table(f"skill of {name}, atoms:", *SIZE_CLASSES, box=None)
    for target in row["skills"]:
        cells = [row["by_size"][size].get(target, np.nan) for size in SIZE_CLASSES]
        table.add_row(target, *(f"{skill:.3f}" for skill in cells))
    shared = set.intersection(*(set(skills) for skills in row["by_size"].values()))
    if shared:
        means = [np.mean([row["by_size"][s][t] for t in shared]) for s in SIZE_CLASSES]
        table.add_section()
        table.add_row(f"mean of {len(shared)}", *(f"{mean:.3f}" for mean in means))
    return table


def main() -> None:
    """Run the folds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, help="run folders; default: runs/accuracy/STUDY")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--no-search", dest="search", action="store_false", help="groupings made without one"
    )
    parser.add_argument(
        "--cut",
        action="append",
        default=[],
        metavar="TARGET=N",
        help="labels left outside the test",
    )
    parser.add_argument(
        "--scored", metavar="STORE", help="count only test rows that are in this store"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cuts = {target: int(n) for target, n in (cut.split("=") for cut in arguments.cut)}
    scored = frozenset(load_dataset(arguments.scored).ids) if arguments.scored else None
    out = arguments.out or Path("runs/accuracy") / Path(arguments.study).stem
    out.mkdir(parents=True, exist_ok=True)
    started, folds = time.perf_counter(), []
    for fold in arguments.folds:
        overrides = tuple(arguments.overrides)
        folds.append(
            run_fold(arguments.study, fold, out, overrides, arguments.search, cuts, scored)
        )
        if not arguments.json:
            show(summary(folds), time.perf_counter() - started)
    if arguments.json:
        print(json.dumps(summary(folds)))


if __name__ == "__main__":
    main()
