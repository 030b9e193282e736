"""The transfer report of a run: which networks and affinities enter it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taskgroup.affinity import affinity_matrix
from taskgroup.affinity.gradients import JOINT_AFFINITIES
from taskgroup.errors import RunError
from taskgroup.execution import ResultStore
from taskgroup.execution.results import network_path
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.study.transfer import label_affinities, run_transfer, study_transfer


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_config: Callable) -> Study:
    return Study(make_config("search.n_trials=4"), tmp_path_factory.mktemp("run") / "small").run()


@pytest.fixture(scope="module")
def data(study: Study) -> StudyData:
    return StudyData(study.config)


def measures(report) -> set[str]:
    return {row["measure"] for row in report.to_dict()["measures"]}


def test_label_affinities_are_magnitudes_on_training_rows(data: StudyData):
    affinities = label_affinities(data)
    expected = affinity_matrix(data.targets.rows(data.training_rows), "pearson")
    np.testing.assert_allclose(affinities["|pearson|"].values, np.abs(expected.values))
    assert all(name.startswith("|") and name.endswith("|") for name in affinities)


def test_features_are_measured_where_every_target_has_a_network_of_its_own(study: Study):
    report = study_transfer(study.folder)
    assert {"|spearman|", "logme"} <= measures(report)


def test_without_such_networks_label_affinities_remain(
    study: Study, data: StudyData, tmp_path: Path
):
    store = ResultStore(study.folder / "results")
    report = run_transfer(tmp_path, data, store, None)
    assert "|spearman|" in measures(report)
    assert "logme" not in measures(report)
    single = next(result for result in store if len(result.targets) == 1)
    assert not network_path(tmp_path, single.key).exists()


def test_gradients_are_measured_when_asked_for(study: Study):
    report = study_transfer(study.folder, gradients=True)
    assert measures(report) & set(JOINT_AFFINITIES)


def test_a_run_without_results_is_refused(data: StudyData, tmp_path: Path):
    with pytest.raises(RunError, match="needs trained groups, but results/ holds none"):
        run_transfer(tmp_path, data, ResultStore(tmp_path / "results"), None)
