"""Search spaces: what is refused, what is suggested, how values travel through Optuna."""

import optuna
import pytest

from taskgroup.errors import ConfigError
from taskgroup.spec.space import GroupingSettings, Space, load_space, settings_of

SPACE = {
    "grouping": {
        "affinity": {"choices": ["spearman", "pearson"], "default": "pearson"},
        "method": {"choices": ["louvain", "spectral"]},
        "resolution": {"low": 0.5, "high": 1.5, "step": 0.5, "when": {"method": "louvain"}},
        "k": {"low": 2, "high": 4, "when": {"method": ["spectral"]}},
    },
    "training": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "epochs": 3},
}


def suggested(space: Space, params: dict) -> dict:
    return space.suggest(optuna.trial.FixedTrial(params))


def test_baseline_settings_take_the_default_then_the_first_choice_then_the_middle():
    settings = load_space(SPACE).baseline()
    assert settings["grouping"] == {"affinity": "pearson", "method": "louvain", "resolution": 1.0}
    assert settings["training"] == {"lr": pytest.approx(1e-3), "epochs": 3}


def test_conditional_parameters_are_asked_for_only_where_they_mean_something():
    params = {
        "grouping.affinity": "spearman",
        "grouping.method": "spectral",
        "grouping.k": 3,
        "training.lr": 0.01,
    }
    settings = suggested(load_space(SPACE), params)
    assert settings["grouping"] == {"affinity": "spearman", "method": "spectral", "k": 3}


def test_settings_survive_the_way_through_optuna():
    space = load_space({"grouping": {}, "model": {"widths": {"choices": [[], [0.4]]}}})
    assert space.encode({"model": {"widths": [0.4]}}) == {"model.widths": "[0.4]"}
    assert suggested(space, {"model.widths": "[0.4]"})["model"] == {"widths": [0.4]}


def test_settings_become_checked_objects():
    grouping, model, training = settings_of(load_space(SPACE).baseline())
    assert grouping == GroupingSettings(affinity="pearson", method="louvain", resolution=1.0)
    assert training.epochs == 3
    assert model.backbone


def test_methods_of_baselines_join_the_choices_and_leave_the_default():
    space = load_space(SPACE).with_methods(("singles", "louvain"))
    assert space.grouping["method"].choices == ("louvain", "spectral", "singles")
    assert space.baseline()["grouping"]["method"] == "louvain"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grupping": {}}, "unknown section; did you mean 'grouping'"),
        ({"training": {"learning_rate": 1e-3}}, "training.learning_rate: unknown key"),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
        (
            {"training": {"lr": {"low": 1e-2, "high": 1e-4}}},
            "low <= high must hold, found low=0.01, high=0.0001",
        ),
        ({"training": {"lr": {"low": 0, "high": 1e-4, "log": True}}}, "low > 0"),
        ({"training": {"lr": {"lo": 0, "high": 1e-4}}}, "did you mean 'low'"),
        ({"training": {"lr": {"low": 1e-4}}}, "either choices, or low and high"),
        ({"training": {"lr": {"choices": [1e-3], "low": 1e-4}}}, "either choices, or low and high"),
        ({"training": {"lr": {"choices": []}}}, "must not be empty"),
        ({"training": {"lr": -1}}, "training.lr: .*greater than 0.*found -1"),
        ({"training": {"epochs": {"choices": [1, "many"]}}}, "training.epochs: .*found 'many'"),
        (
            {"grouping": {"k": {"low": 2, "high": 3, "when": {"methd": "x"}}}},
            "no parameter 'methd'",
        ),
        (
            {"grouping": {"method": {"choices": ["louvain"], "default": "spectral"}}},
            "default must be one of",
        ),
    ],
)
def test_faults_are_named_in_one_line(content: dict, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        load_space(content)
    assert "\n" not in str(caught.value)
