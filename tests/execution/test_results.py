"""The cache of everything trained."""

from pathlib import Path

import pytest

from taskgroup.execution.results import ResultStore
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
