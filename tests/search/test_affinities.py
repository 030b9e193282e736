"""The affinities a study groups by: of labels or of one joint run, each made once and kept."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.errors import ConfigError, TrainingFailed
from taskgroup.execution import measure
from taskgroup.search import affinities
from taskgroup.search.affinities import Affinities
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.study import Study
from taskgroup.training.affinity_hooks import gradient_affinity


@pytest.fixture(scope="module")
def made(
    make_config: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StudyData, Affinities, Path]:
    """The affinities of the small study, and its run folder."""
    config, folder = make_config(), tmp_path_factory.mktemp("run")
    data = StudyData(config)
    _, model, training = settings_of(config.space.baseline())
    return data, Affinities(data, folder, Recipe(model, training), seed=0), folder


def test_label_affinities_see_training_rows_only(made):
    data, affinity_of, folder = made
    found = affinity_of("spearman")
    expected = affinity_matrix(data.targets.rows(data.training_rows), "spearman")
    np.testing.assert_allclose(found.values, expected.values)
    np.testing.assert_allclose(
        Affinity.from_json((folder / "affinity/spearman.json").read_text()).values, found.values
    )


@pytest.mark.parametrize("name", ["gradient", "look_ahead", "projected"])
def test_a_joint_run_in_a_process_apart_gives_what_it_gives_here(made, name: str):
    data, affinity_of, _ = made
    found = affinity_of(name)
    job = data.job(data.targets.names, affinity_of._recipe, 0, 1)
    split = data.splits.split(data.split.test_fold, 1)
    expected = gradient_affinity(
        data.dataset, split, job, name, every=None if name == "projected" else 4
    )
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_a_joint_run_is_trained_once_a_study(made, monkeypatch: pytest.MonkeyPatch):
    data, affinity_of, folder = made
    first = affinity_of("gradient")
    monkeypatch.setattr(affinities, "measured_affinity", None)  # calling it would fail
    again = Affinities(data, folder, affinity_of._recipe, seed=0)("gradient")
    np.testing.assert_array_equal(first.values, again.values)


def test_a_joint_run_that_dies_says_why(made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    data, affinity_of, folder = made
    module = tmp_path / "no_room.py"
    module.write_text("def serve(channel):\n    raise MemoryError('no room')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(measure, "_FUNCTION", "no_room:serve")
    with pytest.raises(
        TrainingFailed, match=r"joint run of all targets failed: MemoryError: no room"
    ):
        Affinities(data, folder, affinity_of._recipe, seed=5)("gradient")


def test_a_study_groups_by_gradients(make_config: Callable, tmp_path: Path):
    config = make_config(
        "search.n_trials=5", "search.baselines=[singles]", "space.grouping.affinity=gradient",
        "space.grouping.sparsifier=mst", "refit.top=1",
    )  # fmt: skip
    study = Study(config, tmp_path / "run").run()
    trials = [record for record in study.records() if record.kind == "trial"]
    assert trials
    assert all(record.state != "FAIL" for record in trials)
    assert any(1 < len(record.grouping) < 4 for record in trials)
    assert len(list((study.folder / "affinity").glob("gradient-*.json"))) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "space.grouping.affinity=spearmann",
            r"unknown measure 'spearmann'; did you mean 'spearman'\?",
        ),
        (
            "space.grouping.sparsifier=treshold",
            r"no sparsifier 'treshold'; did you mean 'threshold'\?",
        ),
        ("space.grouping.method=luvain", r"did you mean 'louvain'\?"),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(
    make_config: Callable, override: str, message: str
):
    with pytest.raises(ConfigError, match=message):
        make_config(override)
