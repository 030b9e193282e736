"""The example plug-in package installs, keeps our rules, and runs through a tiny study."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"
STUDY_SETTINGS = (
    "name=tiny",
    "targets=[level, level_too, spread, volume]",
    "search.n_trials=3",
    "search.baselines=[singles, together]",
    "space.grouping={affinity: sign_agreement, sparsifier: none, method: stronger_than_mean}",
    "space.model={backbone: {name: radial_mlp, hidden: {choices: [8, 16]}}, head_width: 4}",
    "space.training={epochs: 2, batch_size: 16, balance: largest_loss}",
    "refit.top=1",
    "refit.members=3",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for processes that find the installed plug-in, and this checkout."""
    target = tmp_path_factory.mktemp("site")
    # A build writes into its folder, which must not be the checkout.
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*install, "--no-build-isolation", "--target", str(target), str(source)], check=True
    )
    paths = os.pathsep.join([str(target), str(ROOT)])
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def taskgroup(
    *arguments: str, environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that sees the plug-in."""
    return subprocess.run(
        [sys.executable, "-m", "taskgroup", *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_plugin_keeps_the_rules(environment, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(PLUGIN), str(PLUGIN)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_plugins_are_listed_with_the_package_they_come_from(environment, tmp_path: Path):
    done = taskgroup("plugins", environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ("plain_text", "sign_agreement", "stronger_than_mean", "radial_mlp", "largest_loss")
    for name in names:
        (line,) = [line for line in done.stdout.splitlines() if name in line]
        assert "taskgroup-example-plugin" in line
        assert "1.0.0" in line


def test_a_study_searches_the_settings_of_plugins_and_its_bundle_predicts(
    environment, store: Path, tmp_path: Path
):
    settings = [f"dataset={store}", "split.by=formula", *STUDY_SETTINGS]
    overrides = [word for setting in settings for word in ("--set", setting)]
    done = taskgroup("run", "quickstart", *overrides, environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    board = taskgroup(
        "leaderboard", "runs/tiny", "--format", "json", environment=environment, cwd=tmp_path
    )
    assert {row["name"] for row in json.loads(board.stdout)} >= {"singles", "together"}
    checked = taskgroup("doctor", "runs/tiny/export", environment=environment, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    evaluated = taskgroup(
        "evaluate", "runs/tiny/export", str(store), environment=environment, cwd=tmp_path
    )
    assert evaluated.returncode == 0, evaluated.stderr


def test_a_bundle_is_refused_once_its_plugin_means_something_else(
    environment, store: Path, tmp_path: Path
):
    settings = [f"dataset={store}", "split.by=formula", *STUDY_SETTINGS]
    overrides = [word for setting in settings for word in ("--set", setting)]
    done = taskgroup("run", "quickstart", *overrides, environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    # The same name and version, another activation: only the reference predictions can tell.
    module = Path(environment["PYTHONPATH"].split(os.pathsep)[0]) / "taskgroup_example/backbone.py"
    original = module.read_text(encoding="utf-8")
    module.write_text(original.replace("nn.SiLU()", "nn.Tanh()"), encoding="utf-8")
    try:
        refused = taskgroup(
            "evaluate", "runs/tiny/export", str(store), environment=environment, cwd=tmp_path
        )
    finally:
        module.write_text(original, encoding="utf-8")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "must predict what it did" in refused.stderr
