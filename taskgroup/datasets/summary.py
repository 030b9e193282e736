"""What is in a dataset, in numbers for people and programs."""

from typing import Any

import numpy as np

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.splits import SPLIT_BY
from taskgroup.datasets.target import Target
from taskgroup.errors import ConfigError


def describe(dataset: Dataset) -> dict[str, Any]:
    """Size, hash, targets and default splits of a dataset, ready for JSON.

    ``targets``: a list of {name, kind, unit, transform, n, missing, mean, std, min, max}, in natural units (for a
    class, the mean is the share of 1; None without labels). ``splits``: by each way, {id, sizes} of five folds with
    seed 0, or None where there are too few groups.
    """
    facts = ("name", "version", "hash", "kind", "grid", "n_channels", "sigma")
    return {
        **{fact: getattr(dataset, fact) for fact in facts},
        "n_rows": len(dataset),
        "n_formulas": len(set(dataset.formulas)),
        "n_chemical_systems": len(set(dataset.chemical_systems)),
        "targets": [
            _column(spec, dataset.targets.column(spec.name)) for spec in dataset.targets.specs
        ],
        "splits": {by: _folds(dataset, by) for by in SPLIT_BY},
    }


def _column(spec: Target, values: np.ndarray) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    statistics = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    numbers = {name: float(of(known)) if known.size else None for name, of in statistics.items()}
    fields = {name: value for name, value in spec.to_dict().items() if name != "description"}
    return {**fields, "n": known.size, "missing": values.size - known.size, **numbers}


def _folds(dataset: Dataset, by: str) -> dict[str, Any] | None:
    try:
        splits = dataset.splits(by=by)
    except ConfigError:
        return None
    return {"id": splits.id, "sizes": np.bincount(splits.fold_of_row).tolist()}
