"""Rows prepared by one process are read by the next, and never by other code, data or settings."""

import os
import time

import numpy as np
import pytest
import torch

from taskgroup.datasets import load_dataset
from taskgroup.models import ModelConfig, PreparedRows
from taskgroup.models.multitask import make_view
from taskgroup.training import device_rows, prepared_rows

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TASKGROUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(device_rows, "_LONG", 0.0)
    monkeypatch.setattr(device_rows, "_cache", type(device_rows._cache)())


@pytest.fixture(scope="module")
def few():
    return load_dataset("crystals").subset(np.arange(5))


def forget():
    device_rows._cache.clear()


@pytest.mark.parametrize("backbone", ["peaks", "descriptors", "msa3dcnn"])
def test_the_next_process_finds_equal_rows(few, backbone, monkeypatch):
    view = make_view(ModelConfig(backbone=backbone, grid=8), 1)
    first = device_rows.prepare_rows(few, view, CPU)
    forget()
    monkeypatch.setattr(view, "prepare", None)  # calling it would fail
    second = device_rows.prepare_rows(few, view, CPU)
    assert first.rows.names == second.rows.names
    for one, other in zip(first.rows.tensors, second.rows.tensors, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_other_data_settings_and_code_are_prepared_anew(few, monkeypatch):
    view = make_view(ModelConfig(backbone="descriptors"), 1)
    device_rows.prepare_rows(few, view, CPU)
    assert prepared_rows.load_prepared(few.inputs_hash, view.key, len(few)) is not None
    assert prepared_rows.load_prepared("other", view.key, len(few)) is None
    assert prepared_rows.load_prepared(few.inputs_hash, "other", len(few)) is None
    monkeypatch.setattr(type(view), "version", type(view).version + 1)
    assert prepared_rows.load_prepared(few.inputs_hash, view.key, len(few)) is None


def test_a_torn_file_is_prepared_anew(few):
    view = make_view(ModelConfig(backbone="descriptors"), 1)
    first = device_rows.prepare_rows(few, view, CPU).rows["statistics"].clone()
    (file,) = prepared_rows.cache_folder().glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    forget()
    assert torch.equal(device_rows.prepare_rows(few, view, CPU).rows["statistics"], first)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(few, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TASKGROUP_CACHE", str(tmp_path / "file"))
    view = make_view(ModelConfig(backbone="descriptors"), 1)
    assert len(device_rows.prepare_rows(few, view, CPU).rows) == len(few)


def test_the_files_used_longest_ago_make_room(few, monkeypatch):
    rows = PreparedRows.of(statistics=torch.zeros(5, 100))
    monkeypatch.setattr(prepared_rows, "_MOST_IN_ALL", 5000)  # two files of about 2100 bytes
    for age, name in ((30, "old"), (20, "used again"), (10, "new")):
        prepared_rows.save_prepared(name, "view", rows)
        path = prepared_rows._path(name, "view")
        if path.exists():
            os.utime(path, (time.time() - age,) * 2)
        if name == "used again":
            assert prepared_rows.load_prepared("old", "view", 5) is not None
    assert prepared_rows.load_prepared("used again", "view", 5) is None
    assert prepared_rows.load_prepared("old", "view", 5) is not None
    assert prepared_rows.load_prepared("new", "view", 5) is not None
