"""The learning curve of a study's choice."""

import shutil
from collections.abc import Callable

import pytest

from taskgroup.errors import ConfigError, RunError
from taskgroup.execution import ResultStore
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.study.learning_curve import learning_curve
from taskgroup.study.transfer import run_transfer
from taskgroup.tracking.learning_points import read_learning
from taskgroup.tracking.report import report_html


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_config: Callable) -> Study:
    return Study(make_config("search.n_trials=4"), tmp_path_factory.mktemp("run") / "small").run()


@pytest.fixture(scope="module")
def points(study: Study):
    return learning_curve(study.folder, (1.0, 0.5))


def test_with_all_rows_the_curve_ends_at_the_bundle(study: Study, points) -> None:
    final = study.final()
    assert points[-1].share == 1
    assert points[-1].rows == 24  # three folds of five, of 40 rows
    assert points[-1].mean.mean == pytest.approx(final.test_value.mean, abs=1e-6)
    for target, skill in points[-1].skills.items():
        assert skill.mean == pytest.approx(final.test[target]["skill"], abs=1e-6)


def test_a_smaller_share_trains_other_networks_on_fewer_rows(study: Study, points) -> None:
    assert points[0].rows == 12
    store = ResultStore(study.folder / "results")
    shares = [result.job.split.get("train_share") for result in store]
    assert shares.count(0.5) == 3 * len(study.final().grouping)
    assert points[0].mean.mean != points[-1].mean.mean


def test_the_curve_is_kept_and_the_report_shows_it(study: Study, points) -> None:
    assert read_learning(study.folder) == points
    html = report_html(study.folder)
    assert "Skill against training rows" in html
    assert "Predicted against true" in html
    before = len(ResultStore(study.folder / "results"))
    learning_curve(study.folder, (0.5, 1.0))
    assert len(ResultStore(study.folder / "results")) == before


def test_networks_of_fewer_rows_are_no_part_of_the_transfer_report(
    study: Study, points, tmp_path
) -> None:
    store = ResultStore(study.folder / "results")
    whole = ResultStore(tmp_path / "results")
    for result in store:
        if "train_share" not in result.job.split:
            whole.add(result)
    assert len(whole) < len(store)
    data = StudyData(study.config)
    reports = [run_transfer(study.folder, data, each, study.final()) for each in (store, whole)]
    assert reports[0].gain_rows() == reports[1].gain_rows()


def test_unfinished_runs_and_impossible_shares_are_refused(
    study: Study, make_config, tmp_path
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(study.folder / "study.json", begun)
    with pytest.raises(RunError, match="not ended"):
        learning_curve(begun)
    for share in (1.5, 1e-3):
        with pytest.raises(ConfigError, match="train_share"):
            learning_curve(study.folder, (share,))
