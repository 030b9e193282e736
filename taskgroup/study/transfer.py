"""The transfer report of a run folder: every network it trained, and every affinity that can be computed for it."""

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
    """Return the transfer report of a run.

    Label affinities come from the training rows. Transferability metrics are added where the run kept a network for
    every target alone (it does at its end).

    Parameters
    ----------
    folder: the run folder.
    gradients: train all targets jointly once more, and add the affinities of its gradients.

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
    """Return the transfer report of a run whose data and results are open already; see ``study_transfer``."""
    # Networks on fewer training rows belong to learning curves: their gains are others.
    results = [result for result in store if "train_share" not in result.job.split]
    if not results:
        raise RunError(f"{run}: a transfer report needs trained groups, but results/ holds none")
    affinities = label_affinities(data)
    affinities |= _feature_affinities(run, data, results)
    singles = [result for result in results if len(result.targets) == 1]
    if gradients and singles:
        affinities |= _gradient_affinities(data, singles[0])
    set_runs = [_set_run(run, data, result) for result in results]
    return transfer_report(set_runs, affinities, data.targets, final)


def label_affinities(data: StudyData) -> dict[str, Affinity]:
    """Return every built-in label measure on the training rows, as magnitudes.

    A strong negative relation between two targets lets them share features as well as a positive one.
    """
    labels = data.targets.rows(data.training_rows)
    affinities = {}
    for measure in MEASURES:
        affinity = affinity_matrix(labels, measure)
        affinities[f"|{measure}|"] = replace(affinity, values=np.abs(affinity.values))
    return affinities


def _split(data: StudyData, result: GroupResult) -> Split:
    split = result.job.split
    return data.splits.split(split["test_fold"], split["validation_fold"])


def _set_run(folder: Path, data: StudyData, result: GroupResult) -> SetRun:
    path = prediction_path(folder, result.key)
    predictions = None
    if path.exists():
        predictions = np.load(path, allow_pickle=False)
    validation_rows = _split(data, result).validation
    return SetRun.of(result, validation_rows, predictions)


def _feature_affinities(
    folder: Path, data: StudyData, results: list[GroupResult]
) -> dict[str, Affinity]:
    """Return the transferability of features of single-target networks, on rows that are not test rows."""
    # Imported here, since they load torch, and most reports need no network.
    from taskgroup.export.network_file import read_network
    from taskgroup.training.affinity_hooks import network_features

    path_of_target = {}
    for result in results:
        path = network_path(folder, result.key)
        if len(result.targets) == 1 and path.exists():
            path_of_target[result.targets[0]] = path
    if set(path_of_target) != set(data.targets.names):
        _log.info("no network of every target alone was kept: transferability metrics are left out")
        return {}
    rows = data.training_rows
    features = {}
    for target, path in path_of_target.items():
        features[target] = network_features(read_network(path), data.dataset, rows)
    labels = data.targets.rows(rows)
    systems = [data.dataset.chemical_systems[row] for row in rows]
    affinities = {}
    for name, metric in METRICS.items():
        if metric.takes == "features":
            affinities[name] = transfer_matrix(features, labels, name, groups=systems).affinity()
    return affinities


def _gradient_affinities(data: StudyData, single: GroupResult) -> dict[str, Affinity]:
    """Return the affinities of one joint run of all targets, by the recipe of a single-target network."""
    from taskgroup.training.affinity_hooks import joint_affinities

    job = replace(single.job, targets=data.targets.names)
    return joint_affinities(data.dataset, _split(data, single), job, every=PROBE_EVERY)
