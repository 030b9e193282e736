"""A study as a Python user holds it: what it says, and the tables and files it gives."""

import pandas as pd
import pytest
from matplotlib import pyplot

import taskgroup as tg
from taskgroup.errors import RunError
from taskgroup.study import Study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_config) -> Study:
    config = make_config("search.n_trials=4", "search.startup_trials=2")
    return Study(config, tmp_path_factory.mktemp("run") / "small").run()


def test_a_finished_study_says_what_was_chosen(finished: Study):
    final = finished.final()
    assert finished.state == "finished"
    assert finished.best == final.grouping
    assert str(final.grouping) in finished.verdict
    assert "finished" in repr(finished)
    html = finished._repr_html_()
    assert "singles" in html
    assert finished.config.name in html


def test_its_tables_are_frames_that_the_figures_take(finished: Study):
    assert len(finished.networks()) == len(finished.best)
    assert set(finished.gains("validation").columns) == {"target", "gain", "low", "high", "verdict"}
    with pytest.raises(RunError, match="did you mean 'test'"):
        finished.gains("tests")
    predictions = finished.predictions()
    for target in finished.best.targets:
        assert {target, f"{target}_predicted", f"{target}_std"} <= set(predictions)
    assert (finished.history()["kind"] == "baseline").sum() == 4
    axes = [
        tg.plot.gains(finished),
        tg.plot.parity(finished, "volume"),
        tg.plot.search(finished),
        tg.plot.training_curves(finished),
        tg.plot.affinity(finished, finished.best),
        tg.plot.transfer_matrix(finished),
    ]
    assert all(hasattr(each, "figure") for each in axes)
    pyplot.close("all")


def test_it_gives_a_report_figures_a_bundle_and_its_optuna_study(finished: Study, tmp_path):
    assert "<html" in finished.report(tmp_path / "page.html").read_text()
    assert finished.export(tmp_path / "model") == tmp_path / "model"
    assert tg.load_bundle(tmp_path / "model").targets == finished.bundle().targets
    optuna_study = finished.optuna_study()
    assert len(optuna_study.trials) >= 4
    assert isinstance(optuna_study.trials_dataframe(), pd.DataFrame)


def test_a_study_that_has_not_run_says_so(make_config, tmp_path):
    study = Study(make_config(), tmp_path / "nowhere")
    assert (study.state, study.best) == ("new", None)
    assert "no trial has finished" in study.verdict
    assert "new" in study._repr_html_()
    with pytest.raises(RunError, match="holds study"):
        study.optuna_study()
    with pytest.raises(RunError, match="has no bundle yet"):
        study.bundle()
