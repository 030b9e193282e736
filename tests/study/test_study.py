"""A study from its first trial to its bundle, and through kills at any moment."""

import html
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from taskgroup.datasets import load_dataset
from taskgroup.errors import RunError, TaskgroupError
from taskgroup.execution import EXECUTORS, Failure, InlineExecutor, ResultStore
from taskgroup.export import load_bundle
from taskgroup.search.storage import TrialStorage
from taskgroup.spec.plan import StudyData
from taskgroup.study import Study
from taskgroup.tracking import rows_from_mlflow, tracking_uri, verdict_sentence
from taskgroup.training import GroupJob, mean_skill

TARGETS = {"level", "level_too", "spread", "volume"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_config) -> Study:
    """A finished run of the small study."""
    return Study(make_config(), tmp_path_factory.mktemp("run") / "small").run()


def raw_keys(folder: Path) -> list[str]:
    """The keys in the result files, as they stand there; a torn last line is left out."""
    lines = [
        line
        for file in (folder / "results").glob("*.jsonl")
        for line in file.read_text().splitlines(True)
    ]
    return [json.loads(line)["key"] for line in lines if line.endswith("\n")]


def test_baselines_come_first_and_every_trial_is_on_the_leaderboard(finished: Study):
    records = finished.records()
    assert [record.name for record in records[:4]] == [
        "singles",
        "together",
        "correlation",
        "random",
    ]
    assert sum(record.kind in ("baseline", "trial") for record in records) == 7
    board = finished.leaderboard()
    assert set(board["name"]) == {record.name for record in records}
    values = [value for value in board["objective"] if value is not None and np.isfinite(value)]
    assert values == sorted(values, reverse=True)


def test_the_objective_is_the_mean_skill_of_the_serving_groups(finished: Study):
    for record in finished.records():
        if record.objective is not None:
            assert set(record.skills) == TARGETS
            assert record.objective == pytest.approx(mean_skill(record.skills))


def test_groups_met_again_come_from_the_cache(finished: Study):
    assert (
        sum(
            record.n_cached for record in finished.records() if record.kind in ("baseline", "trial")
        )
        > 0
    )
    keys = raw_keys(finished.folder)
    assert len(keys) == len(set(keys))


def test_the_assembled_grouping_is_at_least_as_good_as_the_best_trial(finished: Study):
    records = finished.records()
    best = max(
        r.objective for r in records if r.objective is not None and r.kind in ("baseline", "trial")
    )
    assembled = [r for r in records if r.kind == "assembled"]
    assert max(r.objective for r in assembled) >= best - 1e-12
    sizes = [len(r.grouping) for r in assembled if r.name != "chosen"]
    assert sizes == sorted(set(sizes))


def test_the_choice_is_the_best_cover_of_the_groups_trained_again_and_its_networks_are_the_bundle(
    finished: Study,
):
    final, data = finished.final(), StudyData(finished.config)
    assert final.seeds == (1000, 1001, 1002)
    folds = {fold for _, fold in data.member_repeats}
    assert len(folds) == 3
    assert data.split.test_fold not in folds
    store = ResultStore(finished.folder / "results")
    again: dict[tuple, list] = {}
    for result in store:
        if result.job.seed >= 1000:
            again.setdefault((result.targets, result.job.model, result.job.training), []).append(
                result
            )
    # Networks that the choice did not hang on have fewer repeats.
    assert {len(members) for members in again.values()} <= {1, 2, 3}
    whole = {key: members for key, members in again.items() if len(members) == 3}
    value = {
        target: max(
            np.mean([member.skills[target] for member in members])
            for (targets, *_), members in whole.items()
            if target in targets
        )
        for target in TARGETS
    }
    # singles with the recipe of the choice were trained again after it, so the best of all may be a little better
    assert final.reevaluation.mean <= mean_skill(value) + 1e-9
    bundle = load_bundle(finished.folder / "export")
    for group in bundle.spec.provenance["groups"]:
        jobs = [GroupJob.from_dict(member) for member in group["members"]]
        assert [(job.seed, job.split["validation_fold"]) for job in jobs] == list(
            data.member_repeats
        )
        assert all(job.key in store for job in jobs)
    assert final.name in {record.name for record in finished.records()}


def test_what_is_trained_again_decides_not_the_value_of_the_search(
    make_config, tmp_path: Path, monkeypatch
):
    """A network that looks perfect to the search and is worthless with new seeds is not chosen."""

    class Lucky(InlineExecutor):
        def train(self, jobs, on_epoch, on_result, **options):
            def result_of(result):
                if len(result.targets) == 4:
                    skill = 1.0 if result.job.seed == 0 else -1.0
                    metrics = {
                        target: {**each, "skill": skill} for target, each in result.metrics.items()
                    }
                    result = replace(result, metrics=metrics)
                on_result(result)

            return super().train(jobs, on_epoch, result_of, **options)

    monkeypatch.setitem(EXECUTORS._builtin, "inline", Lucky)
    study = Study(make_config("search.n_trials=4"), tmp_path / "run").run()
    best = max((r for r in study.records() if r.objective is not None), key=lambda r: r.objective)
    assert [len(group.targets) for group in best.grouping.groups] == [4]
    assert all(len(group.targets) < 4 for group in study.final().grouping.groups)


def test_gains_are_paired_differences_with_the_same_recipe_learning_alone(finished: Study):
    final = finished.final()
    compared = next(
        record.grouping for record in finished.records() if record.name == final.gains_of
    )
    assert set(final.gains) == {
        t for group in compared.groups if len(group.targets) > 1 for t in group.serves
    }
    assert final.gains_of == final.name or all(
        len(group.targets) == 1 for group in final.grouping.groups
    )
    for gain in final.gains.values():
        assert gain.low <= gain.mean <= gain.high
        assert gain.n == 3


def test_test_rows_are_those_of_the_test_fold_and_no_other(finished: Study):
    final, dataset = finished.final(), load_dataset(finished.config.dataset)
    test = dataset.splits(by="formula", folds=5, seed=0).split(0, 1).test
    bundle = load_bundle(finished.folder / "export")
    assert set(bundle.spec.seen_ids).isdisjoint(dataset.ids[row] for row in test)
    for target, metrics in final.test.items():
        assert metrics["n"] == np.isfinite(dataset.targets.column(target)[test]).sum()
    predicted = bundle.predict(dataset, rows=test)
    truth = dataset.targets.column("level")[test]
    r2 = 1 - np.sum((predicted["level"] - truth) ** 2) / np.sum((truth - truth.mean()) ** 2)
    assert final.test["level"]["r2"] == pytest.approx(r2, abs=1e-6)
    assert final.test["level"]["gain"] == pytest.approx(
        final.test["level"]["skill"] - final.test["level"]["skill_alone"], abs=1e-6
    )


def test_the_leaderboard_and_mlflow_agree(finished: Study):
    board = {row["name"]: row for row in finished.leaderboard().to_dict("records")}
    parent = json.loads((finished.folder / "mlflow.json").read_text())["run_id"]
    rows = [
        row
        for row in rows_from_mlflow(tracking_uri(finished.folder), parent)
        if row["kind"] != "refit"
    ]
    assert {row["name"] for row in rows} == set(board)
    for row in rows:
        if row["objective"] is not None:
            assert row["objective"] == pytest.approx(board[row["name"]]["objective"])
        assert row["grouping_id"] == board[row["name"]]["grouping_id"]


def test_a_finished_run_is_not_run_over_and_resuming_it_trains_nothing(finished: Study):
    with pytest.raises(RunError, match="taskgroup resume"):
        Study(finished.config, finished.folder).run()
    before = raw_keys(finished.folder), len(finished.records())
    again = Study.open(finished.folder).resume()
    assert (raw_keys(again.folder), len(again.records())) == before
    assert again.final() == finished.final()


def test_the_same_seed_gives_the_same_study(finished: Study, tmp_path: Path):
    again = Study(finished.config, tmp_path / "again").run()
    assert [(r.name, r.grouping, r.objective) for r in again.records()] == [
        (r.name, r.grouping, r.objective) for r in finished.records()
    ]


def test_a_failing_group_fails_its_trial_and_the_study_goes_on(
    make_config, tmp_path: Path, monkeypatch
):
    class Failing(InlineExecutor):
        def train(self, jobs, on_epoch, on_result, **options):
            bad = {job.key: Failure("nan", "loss is NaN") for job in jobs if len(job.targets) > 3}
            return (
                super().train([j for j in jobs if j.key not in bad], on_epoch, on_result, **options)
                | bad
            )

    monkeypatch.setitem(EXECUTORS._builtin, "inline", Failing)
    study = Study(make_config("search.n_trials=5"), tmp_path / "run").run()
    together = next(record for record in study.records() if record.name == "together")
    assert (together.state, together.fail_kind, together.objective) == ("FAIL", "nan", None)
    assert study.final() is not None


def test_a_study_in_which_nothing_trains_says_so(make_config, tmp_path: Path, monkeypatch):
    class Broken(InlineExecutor):
        def train(self, jobs, on_epoch, on_result, **options):
            return {job.key: Failure("error", "broken") for job in jobs}

    monkeypatch.setitem(EXECUTORS._builtin, "inline", Broken)
    with pytest.raises(TaskgroupError, match=r"the first 4 trials all failed \(error\): broken"):
        Study(make_config("search.n_trials=9"), tmp_path / "run").run()


def test_two_processes_cannot_work_on_one_run(make_config, tmp_path: Path):
    import fcntl

    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process"):
            Study(make_config(), folder).run()


def test_two_runs_cannot_share_one_study_of_a_storage(make_config, tmp_path: Path):
    config = make_config(f"storage=journal:{tmp_path / 'journal.log'}", "search.n_trials=4")
    first, second = Study(config, tmp_path / "first"), Study(config, tmp_path / "second")
    TrialStorage.open(config, first.folder).enqueue_baselines(config)
    first.run()  # baselines that a killed start had queued belong to nobody yet
    with pytest.raises(RunError, match=r"holds 5 trials of a study 'small' that another run"):
        second.run()
    assert len(first.resume().records()) > 4


def test_workers_in_threads_finish_the_same_number_of_trials(make_config, tmp_path: Path):
    study = Study(make_config("executor.workers=2", "search.n_trials=6"), tmp_path / "run").run()
    numbers = [record.number for record in study.records() if record.kind in ("baseline", "trial")]
    assert len(numbers) == len(set(numbers)) == 6


# -- real processes, really killed ------------------------------------------------------------------------------------


def start(verb: str, what: Path, home: Path) -> subprocess.Popen:
    environment = os.environ | {"TASKGROUP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "taskgroup", verb, str(what)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_results(folder: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "results").exists() and len(raw_keys(folder)) >= count:
            return
        time.sleep(0.02)


@pytest.fixture
def study_file(make_config, tmp_path: Path) -> Path:
    # A range of rates: no proposal repeats another, so the number of trials is exact.
    rates = "space.training.lr={low: 0.001, high: 0.01, log: true}"
    config = make_config("executor.kind=process", "space.training.epochs=40", rates)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return path


def test_a_study_killed_at_any_moment_resumes_without_training_a_group_twice(
    study_file: Path, tmp_path: Path
):
    folder = tmp_path / "runs" / "small"
    verb, what = "run", study_file
    for count in (2, 8, 16):  # in the first trials, in later ones, and about the re-evaluation
        process = start(verb, what, tmp_path)
        wait_for_results(folder, count, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        verb, what = "resume", folder
    kept = raw_keys(folder)
    written = {key: (folder / "predictions" / f"{key}.npy").stat().st_mtime_ns for key in kept}
    process = start("resume", folder, tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    keys = raw_keys(folder)
    assert keys[: len(kept)] == kept
    assert len(set(keys)) == len(keys)
    assert {
        key: (folder / "predictions" / f"{key}.npy").stat().st_mtime_ns for key in kept
    } == written
    study = Study.open(folder)
    numbers = [record.number for record in study.records() if record.is_trial]
    assert len(numbers) == len(set(numbers)) == 7
    assert load_bundle(folder / "export").targets == tuple(sorted(TARGETS))


def test_an_interrupted_study_stops_cleanly_and_says_how_to_go_on(study_file: Path, tmp_path: Path):
    folder = tmp_path / "runs" / "small"
    process = start("run", study_file, tmp_path)
    wait_for_results(folder, 3, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    assert f"taskgroup resume {folder}" in output
    assert "Traceback" not in output
    assert len(raw_keys(folder)) >= 3


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_a_finaliser_swallows_stops_the_study_at_its_next_step(name: str):
    code = f"""
        import os, signal
        from taskgroup.cli.studies import interruptible
        from taskgroup.study import StudyHooks
        hooks = interruptible(StudyHooks())
        class Deaf:
            def __del__(self):
                os.kill(os.getpid(), signal.{name})
        Deaf()
        print("swallowed", flush=True)
        hooks.on_phase("search", 1)
        print("went on")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("swallowed\n", -signal.SIGINT)


def test_the_end_of_a_study_tells_who_helped_whom(finished: Study):
    import mlflow
    import pandas as pd

    folder = finished.folder
    gains = pd.read_csv(folder / "transfer" / "gains.csv")
    report = json.loads((folder / "transfer" / "transfer.json").read_text())
    assert set(gains["target"]) <= TARGETS
    assert len(gains) == len(report["gains"]) > 0
    assert {row["measure"] for row in report["measures"]} >= {"|spearman|", "logme"}
    client = mlflow.MlflowClient(tracking_uri(folder))
    parent = json.loads((folder / "mlflow.json").read_text())["run_id"]
    for name in ("transfer", "affinity"):
        held = {Path(item.path).name for item in client.list_artifacts(parent, name)}
        assert held == {path.name for path in (folder / name).iterdir()}
    assert "report.html" in {item.path for item in client.list_artifacts(parent)}
    page = (folder / "report.html").read_text()
    assert " · finished · " in page
    assert html.escape(verdict_sentence(finished.final()), quote=False) in page
