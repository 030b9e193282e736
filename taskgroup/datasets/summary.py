"""Description of a dataset, in numbers for people and programs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.splits import SPLIT_BY
from taskgroup.datasets.target import Target
from taskgroup.errors import ConfigError


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return size, hash, targets and default splits of a dataset, ready for JSON.

    ``targets``: a list of {name, kind, unit, transform, n, missing, mean, std, min, max}, in natural units (for a
    class, the mean is the share of 1; None without labels). ``splits``: by each way, {id, sizes} of five folds with
    seed 0, or None where there are too few groups. ``quality_notes`` tells what to look at.
    """
    table = dataset.targets
    return {
        "name": dataset.name,
        "version": dataset.version,
        "hash": dataset.hash,
        "kind": dataset.kind,
        "grid": dataset.grid,
        "spacing": dataset.spacing,
        "points": _points(dataset),
        "n_channels": dataset.n_channels,
        "sigma": dataset.sigma,
        "n_rows": len(dataset),
        "n_formulas": len(set(dataset.formulas)),
        "n_chemical_systems": len(set(dataset.chemical_systems)),
        "targets": [_column(spec, table.column(spec.name)) for spec in table.specs],
        "splits": {by: _folds(dataset, by) for by in SPLIT_BY},
    }


def _points(dataset: Dataset) -> dict[str, int]:
    """Return the least, the median and the largest number of grid points of a row."""
    points = dataset.shapes.prod(axis=1)
    return {"min": int(points.min()), "median": int(np.median(points)), "max": int(points.max())}


def _column(spec: Target, values: NDArray[np.float64]) -> dict[str, Any]:
    labels = values[~np.isnan(values)]
    facts: dict[str, Any] = spec.to_dict()
    del facts["description"]
    facts["n"] = labels.size
    facts["missing"] = values.size - labels.size
    statistics = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    for name, statistic in statistics.items():
        facts[name] = float(statistic(labels)) if labels.size else None
    return facts


def _folds(dataset: Dataset, by: str) -> dict[str, Any] | None:
    try:
        splits = dataset.splits(by=by)
    except ConfigError:
        return None
    return {"id": splits.id, "sizes": np.bincount(splits.fold_of_row).tolist()}
