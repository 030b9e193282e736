"""Which targets help one target, from the networks of a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskgroup.cli import cli, main
from taskgroup.errors import RunError
from taskgroup.grouping.predict import Network, Observation, SkillModel
from taskgroup.study import Study
from taskgroup.study.helpers import _helpers, helpers_of


def test_a_helper_is_told_from_a_target_that_hurts():
    observations = []
    for seed in range(4):
        noise = 0.002 * (-1) ** seed
        for tasks, value in ((("a",), 0.5), (("a", "b"), 0.6), (("a", "c"), 0.4)):
            scores = {task: (value if task == "a" else 0.5) + noise for task in tasks}
            observations.append(Observation(Network(tasks), scores, seed))
    model = SkillModel().fit(observations)
    found = _helpers(model, [observation.network for observation in observations], "a")
    assert [helper.name for helper in found.helpers] == ["b", "c"]
    good, bad = found.helpers
    assert good.gain.low > 0
    assert good.probability > 0.99
    assert bad.gain.high < 0
    assert bad.probability < 0.01
    assert good.networks == 1
    assert found.best == ("a", "b")
    assert found.best_gain.mean == pytest.approx(0.1, abs=0.02)


@pytest.fixture(scope="module")
def run(make_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    Study(make_config("search.n_trials=5"), folder).run()
    return folder


def test_the_verb_lists_every_other_target_once(run: Path):
    outcome = CliRunner().invoke(cli, ["helpers", str(run), "level", "--json"])
    assert outcome.exit_code == 0
    found = json.loads(outcome.output)
    assert sorted(h["name"] for h in found["helpers"]) == ["level_too", "spread", "volume"]
    for helper in found["helpers"]:
        assert helper["gain"]["low"] <= helper["gain"]["mean"] <= helper["gain"]["high"]
        assert 0 <= helper["probability"] <= 1
    table = CliRunner().invoke(cli, ["helpers", str(run), "level"])
    assert "expected gain of level" in table.output
    assert "Best network so far for level" in table.output


def test_an_unknown_target_is_named_with_the_nearest_one(run: Path, capsys):
    with pytest.raises(RunError, match="did you mean 'spread'"):
        helpers_of(run, "spred")
    with pytest.raises(SystemExit) as ended:
        main(["helpers", str(run), "spred"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
