"""Metrics of a bundle on labels it was not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Dataset
from taskgroup.errors import BundleError
from taskgroup.export._predict import predict
from taskgroup.export.bundle import Bundle
from taskgroup.export.inputs import check_dataset
from taskgroup.training.metrics import interval, target_metrics


def unseen_rows(bundle: Bundle, dataset: Dataset) -> NDArray[np.int64]:
    """Return the rows of a dataset that no network of the bundle was trained or validated on.

    Rows are recognised by id, where the dataset is the one the bundle was trained on (by name, so another version
    counts, or by hash); of other datasets every row is unseen.
    """
    trained_on = bundle.spec.dataset
    if dataset.name != trained_on.get("name") and dataset.hash != trained_on.get("hash"):
        return np.arange(len(dataset))
    seen = set(bundle.spec.seen_ids)
    unseen = [row for row, name in enumerate(dataset.ids) if name not in seen]
    return np.array(unseen, dtype=np.int64)


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return metrics of each target of the bundle that the dataset has labels of.

    ``rows`` defaults to ``unseen_rows``. Options are those of ``predict``. Gives

        {"targets": {name: {n, skill, low, high, r2, r2_natural, mae, rmse, coverage_90 | auc, accuracy, log_loss}},
         "dataset": {name, version, hash}, "rows": how many were used, "seen_rows": how many of them were seen}

    where low and high bound the 95 % bootstrap interval of the skill, r2 is in the space of the target's transform and
    the others in its unit; coverage_90 is the share of rows inside their prediction interval of coverage 0.9. Raises
    BundleError: densities or units differ, or there is nothing to evaluate.
    """
    check_dataset(bundle, dataset)
    names = [name for name in bundle.targets if name in dataset.targets.names]
    if not names:
        raise BundleError(
            f"dataset '{dataset.name}': needs a target of the bundle ({', '.join(bundle.targets)}), "
            f"it has {', '.join(dataset.targets.names)}."
        )
    for name in names:
        _check_target(bundle, dataset, name)
    unseen = unseen_rows(bundle, dataset)
    used = unseen
    if rows is not None:
        used = np.asarray(rows, dtype=np.int64)
    if not len(used):
        raise BundleError(
            f"dataset '{dataset.name}': the bundle has seen every row; evaluate all of them with --all."
        )
    predicted = predict(bundle, dataset, rows=used, **options)
    metrics_by_target = {}
    for name in names:
        truth = dataset.targets.column(name)[used]
        metrics_by_target[name] = _metrics(bundle, name, truth, predicted[name].to_numpy())
    return {
        "targets": metrics_by_target,
        "dataset": {"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        "rows": len(used),
        "seen_rows": len(set(used.tolist()) - set(unseen.tolist())),
    }


def _metrics(bundle: Bundle, name: str, truth: NDArray, predicted: NDArray) -> dict[str, Any]:
    target = bundle.spec.target(name)
    skill = interval(target, truth, predicted)
    metrics = target_metrics(target, truth, predicted)
    # These four come first for every kind of target, then those of its kind.
    head = {"n": metrics.pop("n"), "skill": metrics.pop("skill")}
    head |= {"low": skill.low, "high": skill.high}
    return head | metrics | _covered(bundle, name, truth, predicted)


def _covered(bundle: Bundle, name: str, truth: NDArray, predicted: NDArray) -> dict[str, float]:
    """Return the share of labelled rows inside the 90 % interval, where the bundle has one."""
    width = bundle.spec.intervals.get(name, {}).get("0.9")
    labelled = np.isfinite(truth)
    if width is None or not labelled.any():
        return {}
    target = bundle.spec.target(name)
    error = target.forward(truth[labelled]) - target.forward_predictions(predicted[labelled])
    return {"coverage_90": float((np.abs(error) <= width).mean())}


def _check_target(bundle: Bundle, dataset: Dataset, name: str) -> None:
    bundle_target = bundle.spec.target(name)
    dataset_target = dataset.targets.spec(name)
    for field in ("unit", "kind"):
        expected, found = getattr(bundle_target, field), getattr(dataset_target, field)
        if found != expected:
            raise BundleError(
                f"dataset '{dataset.name}', target '{name}': {field} must be '{expected}' as in the bundle, "
                f"but is '{found}'."
            )
