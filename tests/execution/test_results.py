"""The cache of everything trained."""

import json
from pathlib import Path

import pytest

from taskgroup.execution.results import ResultStore, pending_content, pending_path
from taskgroup.files import write_json
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, GroupResult, TrainConfig

SPLIT = {"by": "formula", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def result(*targets: str, seed: int = 0) -> GroupResult:
    job = GroupJob(targets, ModelConfig(), TrainConfig(), seed, "crystals", "hash", SPLIT)
    metrics = {target: {"skill": 0.5, "n": 3} for target in targets}
    return GroupResult(job, metrics, (dict.fromkeys(targets, 0.5),), 1.0, 1, 1, 10)


def test_what_was_added_is_found_by_a_store_opened_later(tmp_path: Path):
    first = ResultStore(tmp_path)
    first.add(result("a"))
    first.add(result("a", "b"))
    again = ResultStore(tmp_path)
    assert len(again) == 2
    assert again.get(result("b", "a").key) == result("a", "b")
    assert again.get(result("b").key) is None


def test_adding_a_key_again_changes_neither_memory_nor_disk(tmp_path: Path):
    store = ResultStore(tmp_path)
    store.add(result("a"))
    size = (tmp_path / "main.jsonl").stat().st_size
    store.add(result("a"))
    assert len(store) == 1
    assert (tmp_path / "main.jsonl").stat().st_size == size


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_torn_by_a_kill_costs_that_line_only(tmp_path: Path, cut: int):
    store = ResultStore(tmp_path)
    for seed in range(3):
        store.add(result("a", seed=seed))
    file = tmp_path / "main.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    again = ResultStore(tmp_path)
    assert len(again) == 2
    again.add(result("a", seed=2))
    assert len(ResultStore(tmp_path)) == 3


def test_writers_see_each_other_after_a_refresh(tmp_path: Path):
    one, two = ResultStore(tmp_path, "one"), ResultStore(tmp_path, "two")
    one.add(result("a"))
    assert two.get(result("a").key) is None
    two.refresh()
    assert two.get(result("a").key) is not None


def test_a_claimed_key_is_waited_for_and_a_trained_one_is_not_claimed(tmp_path: Path):
    store = ResultStore(tmp_path)
    key = result("a").key
    assert store.claim(key) is None
    event = store.claim(key)
    assert not event.is_set()
    store.add(result("a"))
    store.release(key)
    assert event.is_set()
    assert store.claim(key).is_set()


def leave_pending(run: Path, *results: GroupResult, owner: str = "host-1") -> None:
    for each in results:
        write_json(pending_path(run, each.key), pending_content(each, owner))


def test_a_result_whose_line_a_kill_prevented_is_recovered(tmp_path: Path):
    store = ResultStore(tmp_path / "results")
    store.add(result("a"))
    leave_pending(tmp_path, result("a"), result("b"))
    assert ResultStore(tmp_path / "results").get(result("b").key) is None
    assert store.recover() == 1
    assert store.get(result("b").key) == result("b")
    assert not list((tmp_path / "results" / "pending").iterdir())
    lines = (tmp_path / "results" / "main.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [result("a").key, result("b").key]
    assert store.recover() == 0


def test_a_result_whose_owner_lives_is_left_to_it(tmp_path: Path):
    store = ResultStore(tmp_path / "results")
    leave_pending(tmp_path, result("a"), owner="host-1")
    leave_pending(tmp_path, result("b"), owner="host-2")
    assert store.recover(lives=lambda owner: owner == "host-1") == 1
    assert result("a").key not in store
    assert result("b").key in store
    store.add(result("a"))
    assert not list((tmp_path / "results" / "pending").iterdir())


def test_a_damaged_pending_result_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    store = ResultStore(tmp_path / "results")
    path = pending_path(tmp_path, "key")
    path.parent.mkdir()
    path.write_text("{")
    assert store.recover() == 0
    assert "key.json: cannot be read" in caplog.text
    assert not path.exists()
