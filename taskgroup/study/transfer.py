"""The transfer report of a run folder: every network it trained, and every affinity that can be had for it."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from taskgroup.affinity import MEASURES, METRICS, Affinity, affinity_matrix, transfer_matrix
from taskgroup.datasets import Split
from taskgroup.errors import RunError
from taskgroup.execution.measure import PROBE_EVERY
from taskgroup.execution.results import ResultStore, network_path, prediction_path
from taskgroup.spec.config import load_study
from taskgroup.spec.plan import StudyData
from taskgroup.tracking import FinalRecord, find_run, read_final, read_study
from taskgroup.tracking.gains import SetRun
from taskgroup.tracking.transfer_report import TransferReport, transfer_report
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)


def study_transfer(folder: str | Path, *, gradients: bool = False) -> TransferReport:
    """The transfer report of a run.

    Label affinities come from the training rows. Transferability metrics are added where the run kept a network of
    every target alone (it does at its end), ``gradients`` adds those of one more joint run by a single's recipe.

    Raises RunError: no run there, or it has trained nothing yet; StoreError: its dataset is gone or has changed.
    """
    run = find_run(folder)
    data = StudyData(load_study(read_study(run).config))
    return run_transfer(
        run, data, ResultStore(run / "results"), read_final(run), gradients=gradients
    )


def run_transfer(
    run: Path,
    data: StudyData,
    store: ResultStore,
    final: FinalRecord | None,
    *,
    gradients: bool = False,
) -> TransferReport:
    """The same, of what a study holds in its hands."""
    results = [
        result for result in store if "train_share" not in result.job.split
    ]  # not those of learning curves
    if not results:
        raise RunError(f"{run}: a transfer report needs trained groups, but results/ holds none")
    affinities = label_affinities(data) | _feature_affinities(run, data, results)
    singles = [result for result in results if len(result.targets) == 1]
    if gradients and singles:
        affinities |= _gradient_affinities(data, singles[0])
    runs = [_run(run, data, result) for result in results]
    return transfer_report(runs, affinities, data.targets, final)


def label_affinities(data: StudyData) -> dict[str, Affinity]:
    """Every built-in label measure on the training rows, as magnitudes: a strong negative relation shares as much."""
    table = data.targets.rows(data.training_rows)
    found = {name: affinity_matrix(table, name) for name in MEASURES}
    return {
        f"|{name}|": replace(affinity, values=np.abs(affinity.values))
        for name, affinity in found.items()
    }


def _split(data: StudyData, result: GroupResult) -> Split:
    return data.splits.split(result.job.split["test_fold"], result.job.split["validation_fold"])


def _run(folder: Path, data: StudyData, result: GroupResult) -> SetRun:
    path = prediction_path(folder, result.key)
    rows = _split(data, result).validation
    predictions = np.load(path, allow_pickle=False) if path.exists() else None
    return SetRun.of(result, rows, predictions)


def _feature_affinities(
    folder: Path, data: StudyData, results: list[GroupResult]
) -> dict[str, Affinity]:
    """Transferability of the features of single-target networks, on rows that are not test rows."""
    from taskgroup.export.network_file import read_network
    from taskgroup.training.affinity_hooks import network_features

    kept = {
        r.targets[0]: r
        for r in results
        if len(r.targets) == 1 and network_path(folder, r.key).exists()
    }
    if set(kept) != set(data.targets.names):
        _log.info("no network of every target alone was kept: transferability metrics are left out")
        return {}
    rows = data.training_rows
    features = {
        target: network_features(read_network(network_path(folder, result.key)), data.dataset, rows)
        for target, result in kept.items()
    }
    table, systems = data.targets.rows(rows), [data.dataset.chemical_systems[row] for row in rows]
    names = [name for name, metric in METRICS.items() if metric.takes == "features"]
    return {
        name: transfer_matrix(features, table, name, groups=systems).affinity() for name in names
    }


def _gradient_affinities(data: StudyData, single: GroupResult) -> dict[str, Affinity]:
    from taskgroup.training.affinity_hooks import joint_affinities

    job = replace(single.job, targets=data.targets.names)
    return joint_affinities(data.dataset, _split(data, single), job, every=PROBE_EVERY)
