"""Search spaces: what is refused, what is suggested, how values travel through Optuna."""

import optuna
import pytest

from taskgroup.errors import ConfigError
from taskgroup.spec.space import GroupingSettings, Space, settings_of
from taskgroup.spec.space_check import load_space

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
    assert model.backbone.name == "msa3dcnn"


def test_methods_of_baselines_join_the_choices_and_leave_the_default():
    space = load_space(SPACE).with_methods(("singles", "louvain"))
    assert space.grouping["method"].choices == ("louvain", "spectral", "singles")
    assert space.baseline()["grouping"]["method"] == "louvain"


NESTED = {
    "model": {
        "grid": 8,
        "backbone": {
            "name": {"choices": ["peaks", "msa3dcnn"]},
            "width": {"choices": [4, 8]},
            "stages": {"choices": [1, 2], "when": {"width": [8]}},
            "dilations": [1, 3],
        },
    },
}


def test_settings_of_a_backbone_are_searched_below_its_name():
    space = load_space(NESTED)
    assert list(space.parameters()) == [
        "model.backbone.name",
        "model.backbone.width",
        "model.backbone.stages",
    ]
    params = {
        "model.backbone.name": "msa3dcnn",
        "model.backbone.width": 8,
        "model.backbone.stages": 1,
    }
    settings = suggested(space, params)
    _, model, _ = settings_of(settings)
    assert (model.grid, model.backbone.width, model.backbone.stages) == (8, 8, 1)
    assert model.backbone.dilations == (1, 3)
    assert space.encode(settings) == params


def test_settings_that_the_chosen_backbone_does_not_have_are_not_asked_for():
    space = load_space(NESTED)
    settings = suggested(space, {"model.backbone.name": "peaks", "model.backbone.width": 8})
    _, model, _ = settings_of(settings)
    assert (model.backbone.name, model.backbone.width) == ("peaks", 8)
    baseline = settings_of(space.baseline())[1]
    assert (baseline.backbone.name, baseline.backbone.width) == ("peaks", 4)


def test_a_nested_condition_names_its_neighbour():
    space = load_space(NESTED)
    settings = suggested(space, {"model.backbone.name": "msa3dcnn", "model.backbone.width": 4})
    assert "backbone.stages" not in settings["model"]


def test_a_space_survives_json():
    space = load_space(NESTED)
    assert load_space(space.model_dump(mode="json", exclude_none=True)) == space


def test_flat_settings_of_several_backbones_are_shared():
    space = load_space(
        {"model": {"backbone": {"choices": ["peaks", "msa3dcnn"]}, "width": 4, "stages": 1}}
    )
    assert list(space.parameters()) == ["model.backbone"]
    for name in ("peaks", "msa3dcnn"):
        _, model, _ = settings_of(suggested(space, {"model.backbone": name}))
        assert (model.backbone.name, model.backbone.width) == (name, 4)


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
        ({"model": {"backbone": "peak"}}, "model.backbone: unknown backbone 'peak'"),
        ({"model": {"backbone": {"name": "peak"}}}, "model.backbone.name: unknown backbone 'peak'"),
        (
            {"model": {"backbone": {"name": "peaks", "widht": 8}}},
            "model.backbone.widht: unknown key; did you mean 'width'",
        ),
        (
            {"model": {"backbone": {"name": "peaks", "stages": 2}}},
            "model.backbone.stages: unknown key",
        ),
        ({"model": {"backbone": {"width": 0}}}, "backbone.width: .*equal to 2, found 0"),
        ({"model": {"stages": {"choices": [1, 9]}}}, "model.stages: .*equal to 6, found 9"),
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
