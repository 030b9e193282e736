"""How well a bundle predicts the labels of a dataset it was not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Dataset
from taskgroup.errors import BundleError
from taskgroup.export._predict import check_dataset, predict
from taskgroup.export.bundle import Bundle
from taskgroup.training.metrics import interval, target_metrics


def unseen_rows(bundle: Bundle, dataset: Dataset) -> NDArray[np.int64]:
    """Rows of a dataset that no network of the bundle was trained or validated on.

    Told by id, where the dataset is the one the bundle was trained on (by name, so another version counts, or by
    hash); of other datasets every row is unseen.
    """
    trained_on = bundle.spec.dataset
    if dataset.name != trained_on.get("name") and dataset.hash != trained_on.get("hash"):
        return np.arange(len(dataset))
    seen = set(bundle.spec.seen_ids)
    return np.array(
        [row for row, name in enumerate(dataset.ids) if name not in seen], dtype=np.int64
    )


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Metrics of each target of the bundle that the dataset has labels of.

    ``rows`` defaults to ``unseen_rows``. Options are those of ``predict``. Gives

        {"targets": {name: {n, skill, low, high, r2, r2_natural, mae, rmse, coverage_90 | auc, accuracy, log_loss}},
         "dataset": {name, version, hash}, "rows": how many were used, "seen_rows": how many of them were seen}

    where low and high bound the 95 % bootstrap interval of the skill, r2 is in the space of the target's transform and
    the others in its unit; coverage_90 is the share of rows inside their prediction interval of coverage 0.9. Raises
    BundleError where densities or units differ, or there is nothing to evaluate.
    """
    check_dataset(bundle, dataset)
    names = [name for name in bundle.targets if name in dataset.targets.names]
    if not names:
        found = f"it has {', '.join(dataset.targets.names)}"
        raise BundleError(
            f"dataset '{dataset.name}': needs a target of the bundle ({', '.join(bundle.targets)}), {found}."
        )
    for name in names:
        _check_target(bundle, dataset, name)
    unseen = unseen_rows(bundle, dataset)
    chosen = unseen if rows is None else np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        raise BundleError(
            f"dataset '{dataset.name}': the bundle has seen every row; evaluate all of them with --all."
        )
    predicted = predict(bundle, dataset, rows=chosen, **options)
    targets = {}
    for name in names:
        spec, truth, values = (
            bundle.spec.target(name),
            dataset.targets.column(name)[chosen],
            predicted[name].to_numpy(),
        )
        bounds = interval(spec, truth, values)
        metrics = target_metrics(spec, truth, values)
        head = {
            "n": metrics.pop("n"),
            "skill": metrics.pop("skill"),
            "low": bounds.low,
            "high": bounds.high,
        }
        targets[name] = head | metrics | _covered(bundle, name, truth, values)
    return {
        "targets": targets,
        "dataset": {"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        "rows": len(chosen),
        "seen_rows": len(set(chosen.tolist()) - set(unseen.tolist())),
    }


def _covered(bundle: Bundle, name: str, truth: NDArray, values: NDArray) -> dict[str, float]:
    """The share of labelled rows inside the interval, where the bundle has one."""
    width = bundle.spec.intervals.get(name, {}).get("0.9")
    known = np.isfinite(truth)
    if width is None or not known.any():
        return {}
    spec = bundle.spec.target(name)
    error = np.abs(spec.forward(truth[known]) - spec.forward_predictions(values[known]))
    return {"coverage_90": float((error <= width).mean())}


def _check_target(bundle: Bundle, dataset: Dataset, name: str) -> None:
    ours, theirs = bundle.spec.target(name), dataset.targets.spec(name)
    for field in ("unit", "kind"):
        if getattr(ours, field) != getattr(theirs, field):
            found = f"'{getattr(ours, field)}' as in the bundle, but is '{getattr(theirs, field)}'"
            raise BundleError(
                f"dataset '{dataset.name}', target '{name}': {field} must be {found}."
            )
