"""Stores that earlier versions wrote are read by this one; see tests/data/README.md."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import load_dataset, verify_store, write_store
from taskgroup.datasets.store import StoreSettings, begin_store, finish_store, write_part
from taskgroup.datasets.target import Target, TargetTable
from taskgroup.errors import StoreError

from .conftest import make_dataset

STORE = Path(__file__).parents[1] / "data" / "store-format-1"
HASH = "38813ef525d821226eb9bec2c411d1f999fbf1d3b6e7a8072fc12b49cf6eecb7"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORE, tmp_path / "store"))


def test_a_store_of_format_1_holds_what_it_held() -> None:
    data = make_dataset(5, grid=6, channels=2)
    stored = load_dataset(STORE)
    verify_store(STORE)
    assert stored.hash == data.hash == HASH
    assert (stored.grid, stored.spacing) == (6, None)
    np.testing.assert_array_equal(stored.shapes, data.shapes)
    np.testing.assert_array_equal(stored.densities([4, 0, 3]), data.densities([4, 0, 3]))


def test_a_store_of_format_1_becomes_one_of_today(tmp_path: Path) -> None:
    write_store(tmp_path / "new", load_dataset(STORE))
    assert load_dataset(tmp_path / "new").hash == HASH
    assert load_dataset(tmp_path / "new").version == "store format 2"


def test_a_store_of_format_1_takes_other_labels(copy: Path) -> None:
    ids = load_dataset(copy).ids
    table = TargetTable((Target("x"),), ids, np.arange(5.0)[:, None])
    finish_store(copy, table, "relabelled")
    again = load_dataset(copy)
    assert again.targets.names == ("x",)
    np.testing.assert_array_equal(again.densities(), load_dataset(STORE).densities())


def test_a_store_of_format_1_takes_no_further_rows(copy: Path) -> None:
    progress = begin_store(copy, StoreSettings("valence", 6, None, 0.2), 5)
    (part,) = progress.next_parts(1)
    with pytest.raises(StoreError, match=r"store format 1, this one writes 2\); choose another"):
        write_part(copy, part, [])
