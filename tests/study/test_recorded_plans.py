"""Plans of records and bundles, those of older versions included."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taskgroup.execution import ResultStore
from taskgroup.export import Bundle, load_bundle
from taskgroup.spec.plan import Plan
from taskgroup.study import Study
from taskgroup.study.recorded_plans import bundle_plan, recorded_plan


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_config: Callable) -> Study:
    return Study(make_config("search.n_trials=5"), tmp_path_factory.mktemp("run") / "small").run()


@pytest.fixture(scope="module")
def results(study: Study) -> ResultStore:
    return ResultStore(study.folder / "results")


def test_every_record_and_the_bundle_hold_their_plan(study: Study):
    for record in study.records():
        assert Plan.from_dict(record.plan).grouping == record.grouping
    bundle = load_bundle(study.folder / "export")
    plan = Plan.from_dict(bundle.spec.provenance["plan"])
    assert plan.grouping == study.final().grouping


def test_the_plan_of_an_old_record_is_that_of_its_networks(study: Study, results: ResultStore):
    for record in study.records():
        assert recorded_plan(replace(record, plan=None), results) == Plan.from_dict(record.plan)


def test_the_plan_of_an_old_record_with_unknown_networks_is_that_of_its_settings(
    study: Study, tmp_path: Path
):
    empty = ResultStore(tmp_path / "results")
    trials = [record for record in study.records() if record.is_trial]
    for record in trials:
        assert recorded_plan(replace(record, plan=None), empty) == Plan.from_dict(record.plan)


def test_the_plan_of_an_old_bundle_is_that_of_its_jobs(study: Study):
    bundle = load_bundle(study.folder / "export")
    provenance = {k: v for k, v in bundle.spec.provenance.items() if k != "plan"}
    old = Bundle(replace(bundle.spec, provenance=provenance), bundle.members)
    assert bundle_plan(old) == bundle_plan(bundle)


def test_a_run_whose_records_hold_no_plan_is_released_with_the_same_choice(
    study: Study, make_config: Callable, tmp_path: Path
):
    """A searched run of an older version: no plans in its records, and results under other keys."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "study.json").write_bytes((study.folder / "study.json").read_bytes())
    with (old / "trials.jsonl").open("w") as file:
        for line in (study.folder / "trials.jsonl").read_text().splitlines():
            content = json.loads(line)
            if content["kind"] != "assembled":
                del content["plan"]
                content["keys"] = [key[::-1] for key in content["keys"]]
                file.write(json.dumps(content) + "\n")
    (old / "optuna.db").write_bytes((study.folder / "optuna.db").read_bytes())
    released = Study.open(old).resume()
    assert len([r for r in released.records() if r.is_trial]) == 5
    best = max((r for r in released.records() if r.is_trial), key=lambda r: r.objective)
    final = released.final()
    assert final is not None
    assert final.grouping.targets == best.grouping.targets
    assert bundle_plan(load_bundle(old / "export")).grouping == final.grouping
