"""A real small study, looked at with the tools of Optuna."""

import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from taskgroup.errors import ConfigError, RunError
from taskgroup.study import Study

LEARNS = "space.grouping.proposal={choices: [expected, cluster]}"
GP = "search.sampler={name: GPSampler, n_startup_trials: 2}"


@pytest.fixture(scope="module")
def study(make_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> Study:
    config = make_config("search.n_trials=14", LEARNS, GP)
    return Study(config, tmp_path_factory.mktemp("runs") / "small").run()


def complete(study: Study) -> list[optuna.trial.FrozenTrial]:
    return study.optuna_study().get_trials(states=(TrialState.COMPLETE,))


def test_trials_hold_what_they_gave_as_attributes_and_values_by_epoch(study: Study):
    records = {record.number: record for record in study.records() if record.is_trial}
    for trial in complete(study):
        if trial.user_attrs.get("chosen"):
            continue
        record = records[trial.number]
        assert trial.value == record.objective
        assert trial.user_attrs["grouping"] == str(record.grouping)
        assert trial.user_attrs["skills"] == record.skills
        assert trial.user_attrs["gains"] == record.gains
        assert trial.user_attrs["cost"]["networks"] == len(record.grouping)
        assert max(trial.intermediate_values) == len(record.curve) == 4


def test_no_repeat_stands_as_a_complete_trial(study: Study):
    marked = [trial for trial in complete(study) if trial.user_attrs.get("chosen")]
    others = [trial for trial in complete(study) if not trial.user_attrs.get("chosen")]
    assert len(marked) == 1
    assert {t.number for t in others} <= {r.number for r in study.records() if r.is_trial}


def test_the_choice_is_a_trial_of_its_own_marked(study: Study):
    (chosen,) = [trial for trial in complete(study) if trial.user_attrs.get("chosen")]
    final = study.final()
    assert chosen.value == final.reevaluation.mean
    assert chosen.user_attrs["grouping"] == str(final.grouping)
    n_complete = len(complete(study))
    study.resume()
    assert len(complete(study)) == n_complete


def test_importances_and_the_plots_of_optuna_show_the_study(study: Study):
    plain = study.optuna_study()
    assert plain.metric_names == ["mean skill"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importances = optuna.importance.get_param_importances(plain)
        assert {"grouping.proposal", "training.lr"} <= importances.keys()
        assert sum(importances.values()) == pytest.approx(1)
        history = optuna.visualization.plot_optimization_history(plain)
        epochs = optuna.visualization.plot_intermediate_values(plain)
        parallel = optuna.visualization.plot_parallel_coordinate(plain, params=["training.lr"])
    assert history.data
    assert len(epochs.data) > 4
    assert parallel.data


def test_a_study_that_has_not_begun_has_no_optuna_study(make_config: Callable, tmp_path: Path):
    with pytest.raises(RunError):
        Study(make_config(), tmp_path / "none").optuna_study()


def test_a_sampler_and_a_pruner_may_be_objects(make_config: Callable, tmp_path: Path):
    class StopAll(optuna.pruners.BasePruner):
        asked = 0

        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            self.asked += 1
            return True

    pruner = StopAll()
    sampler = optuna.samplers.RandomSampler(seed=1)
    config = make_config("search.n_trials=7", "search.pruner=none")
    study = Study(config, tmp_path / "run", sampler=sampler, pruner=pruner).run()
    assert pruner.asked > 0
    states = {record.state for record in study.records() if record.kind == "trial"}
    assert "PRUNED" in states
    assert study.final() is not None


@pytest.mark.parametrize(
    ("sampler", "told"),
    [
        ("GPSampl", "did you mean 'GPSampler'"),
        ("{name: TPESampler, startup: 3}", "no argument 'startup'"),
        ("CmaEsSampler", "proposes numbers only"),
        ("GridSampler", "search_space"),
    ],
)
def test_a_sampler_that_cannot_be_used_is_refused_with_the_reason(
    make_config: Callable, sampler: str, told: str
):
    with pytest.raises(ConfigError, match=told):
        make_config(f"search.sampler={sampler}")
