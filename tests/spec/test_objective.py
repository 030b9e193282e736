"""What a study optimises: weights, focus and prices, and what is refused."""

from collections.abc import Callable

import pytest

from taskgroup.cli import main
from taskgroup.errors import ConfigError
from taskgroup.spec.objective import ObjectiveConfig, PriceConfig
from taskgroup.spec.plan import StudyData
from taskgroup.training import mean_skill

SKILLS = {"a": 0.8, "b": -7.0, "c": None, "d": 0.4}


def test_without_wishes_the_value_is_the_mean_skill():
    assert ObjectiveConfig().skill(SKILLS) == pytest.approx(mean_skill(SKILLS))
    assert ObjectiveConfig().value(SKILLS, [3.0, 4.0]) == pytest.approx(mean_skill(SKILLS))


def test_weights_count_targets_more_and_focus_leaves_the_others_out():
    assert ObjectiveConfig(weights={"a": 3}).skill({"a": 0.8, "d": 0.4}) == pytest.approx(0.7)
    assert ObjectiveConfig(focus=("d",)).skill(SKILLS) == pytest.approx(0.4)
    assert ObjectiveConfig(focus=("d",)).weights_of(["a", "d"]) == {"a": 0.0, "d": 1.0}


def test_networks_and_seconds_have_their_price():
    skills = {"a": 0.8}
    by_number = ObjectiveConfig(price=PriceConfig(networks=0.01))
    by_seconds = ObjectiveConfig(price=PriceConfig(seconds=0.001))
    assert by_number.value(skills, [5.0, 5.0]) == pytest.approx(0.78)
    assert by_seconds.value(skills, [5.0, 15.0]) == pytest.approx(0.78)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.focus=[lvel]", "objective.focus: the study has no target 'lvel'; did you mean 'level'"),
        ("objective.weights={sprad: 2}", "objective.weights: the study has no target 'sprad'"),
        (
            "objective.weights={level: 0, level_too: 0, spread: 0, volume: 0}",
            "at least one target must have a positive weight",
        ),
    ],
)  # fmt: skip
def test_wishes_that_fit_no_target_are_refused(make_config: Callable, override: str, told: str):
    with pytest.raises(ConfigError, match=told.replace("[", r"\[")):
        StudyData(make_config(override))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("objective.price.networks=.nan", "objective.price.networks"),
        ("objective.weights={volume: -1}", "objective.weights.volume"),
        ("objective.weighs={volume: 1}", "did you mean 'weights'"),
        ("objective={focus: [volume], weights: {band_gap: 2}}", "found 'band_gap'"),
    ],
)
def test_wishes_that_make_no_sense_are_one_line_and_exit_code_2(capsys, override: str, told: str):
    with pytest.raises(SystemExit) as ended:
        main(["run", "quickstart", "--set", override])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
