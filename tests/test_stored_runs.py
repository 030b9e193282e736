"""Runs and bundles that earlier versions wrote are read by this one; see data/README.md."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import Density
from taskgroup.export import check_bundle, load_bundle, save_bundle
from taskgroup.tracking import (
    leaderboard_frame,
    leaderboard_notes,
    read_final,
    read_records,
    read_study,
    verdict_sentence,
)
from taskgroup.tracking.report import report_html

RUNS = sorted(Path(__file__).with_name("data").glob("*/run"))


@pytest.fixture(params=RUNS, ids=lambda run: run.parent.name)
def run(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_is_a_stored_run() -> None:
    assert RUNS
    for run in RUNS:
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        assert size < 300_000


def test_records_are_read_whole(run: Path) -> None:
    lines = (run / "trials.jsonl").read_text().splitlines()
    records = read_records(run)
    assert len(records) == len(lines)
    final = read_final(run)
    assert final.name in {record.name for record in records}
    assert read_study(run).state == "finished"
    assert set(final.test) == set(read_study(run).targets)


def test_leaderboard_verdict_and_report_can_be_made(run: Path) -> None:
    final, records = read_final(run), read_records(run)
    frame = leaderboard_frame(records, final=final)
    assert frame["chosen"].sum() == 1
    assert leaderboard_notes(records, final)
    sentence = verdict_sentence(final)
    assert str(final.grouping) in sentence
    page = report_html(run)
    assert "finished" in page
    assert sentence.split(";")[0].split(":")[0] in page


def test_the_bundle_still_predicts_what_it_did(run: Path) -> None:
    bundle = load_bundle(run / "export")
    result = check_bundle(run / "export")
    assert result.holds, result.problem()
    assert result.n_inputs > 0
    assert bundle.reference is not None


def test_the_bundle_predicts_densities_and_can_be_exported_again(run: Path, tmp_path: Path) -> None:
    bundle = load_bundle(run / "export")
    density = Density(
        bundle.reference.densities[0].astype(np.float32),
        bundle.reference.lattices[0],
        ("Si",),
        np.zeros((1, 3)),
        bundle.spec.density.kind,
        "first",
    )
    before = bundle.predict([density])
    assert np.isfinite(before.to_numpy()).all()
    copy = save_bundle(tmp_path / "copy", bundle.spec, bundle.members, bundle.reference)
    np.testing.assert_array_equal(load_bundle(copy).predict([density]), before)


def test_a_stored_bundle_that_was_damaged_is_refused(run: Path, tmp_path: Path) -> None:
    from taskgroup.errors import BundleError

    copy = tmp_path / "damaged"
    shutil.copytree(run / "export", copy)
    network = next((copy / "networks").iterdir())
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(BundleError, match="altered"):
        load_bundle(copy)
