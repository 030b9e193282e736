"""Fields and labels on the device: prepared once, the same wherever they are kept."""

import numpy as np
import pytest
import torch

from taskgroup.errors import ConfigError, TaskgroupError
from taskgroup.models import CrystalBatch, MultiTaskNetwork, PreparedRows
from taskgroup.training import device_rows, fit, pick_device
from taskgroup.training.device_rows import encode_labels, prepare_rows

from .conftest import make_dataset, make_job, make_split

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch):
    monkeypatch.setattr(device_rows, "_cache", type(device_rows._cache)())


def _network(dataset):
    job = make_job(dataset)
    table = dataset.targets.select(job.targets)
    scaler, _ = encode_labels(table, make_split(dataset), CPU)
    return MultiTaskNetwork(job.model, table.specs, scaler, dataset.n_channels)


def _everything(dataset):
    return CrystalBatch.of(dataset.densities(), dataset.lattices)


def test_fields_are_those_of_the_view_row_by_row(monkeypatch):
    monkeypatch.setattr(device_rows, "_CHUNK", 7)
    dataset = make_dataset(rows=20)
    view = _network(dataset).view
    found = prepare_rows(dataset, view, CPU)
    crystals = _everything(dataset)
    torch.testing.assert_close(found.rows.tensors, view.prepare(crystals).tensors)
    batch, cells = found.batch(torch.tensor([3, 1]))
    for tensor, whole in zip(batch.tensors, found.rows.tensors, strict=True):
        assert torch.equal(tensor, whole[[3, 1]])
    assert torch.equal(cells, crystals.lattice[[3, 1]])


def test_a_dataset_is_prepared_once_a_process(monkeypatch):
    dataset = make_dataset(rows=20)
    first = prepare_rows(dataset, _network(dataset).view, CPU)
    monkeypatch.setattr(type(dataset), "densities", None)
    assert prepare_rows(dataset, _network(dataset).view, CPU) is first


def test_the_least_recently_used_fields_make_room(monkeypatch):
    datasets = [make_dataset(rows=20, seed=seed) for seed in range(3)]
    view = _network(datasets[0]).view
    size = prepare_rows(datasets[0], view, CPU).rows.nbytes
    monkeypatch.setattr(device_rows, "_RESIDENT_BYTES", 2 * size)
    prepare_rows(datasets[1], view, CPU)
    prepare_rows(datasets[0], view, CPU)
    prepare_rows(datasets[2], view, CPU)
    assert [key[0] for key in device_rows._cache] == [
        datasets[0].inputs_hash,
        datasets[2].inputs_hash,
    ]


def test_fields_larger_than_memory_give_the_same_result_from_a_file(monkeypatch):
    dataset = make_dataset()
    split, job = make_split(dataset), make_job(dataset)
    resident = fit(dataset, split, job)
    device_rows._cache.clear()
    monkeypatch.setattr(device_rows, "_RESIDENT_BYTES", 1000)
    opened = []
    monkeypatch.setattr(
        np,
        "memmap",
        lambda *args, plain=np.memmap, **kw: opened.append(kw["shape"]) or plain(*args, **kw),
    )
    mapped = fit(dataset, split, job)
    prepared = resident.network.view.prepare(_everything(dataset))
    assert opened == [prepared["grid"].movedim(1, -1).shape, prepared["statistics"].shape]
    assert np.array_equal(mapped.predictions, resident.predictions)
    assert mapped.result.curve == resident.result.curve


def test_rows_in_a_file_are_prepared_when_they_are_first_wanted(monkeypatch, tmp_path):
    monkeypatch.setenv("TASKGROUP_CACHE", str(tmp_path))
    monkeypatch.setattr(device_rows, "_RESIDENT_BYTES", 1000)
    dataset = make_dataset(rows=20)
    view = _network(dataset).view
    asked = []
    plain = type(dataset).densities
    monkeypatch.setattr(
        type(dataset), "densities", lambda self, rows: asked.extend(rows) or plain(self, rows)
    )
    found = prepare_rows(dataset, view, CPU)
    asked.clear()  # of one row, for its shape
    batch, _ = found.batch(torch.tensor([3, 17, 3]))
    assert asked == [3, 17]
    found.batch(torch.tensor([17, 4]))
    assert asked == [3, 17, 4]
    monkeypatch.setattr(type(dataset), "densities", plain)
    expected = view.prepare(_everything(dataset)[[3, 17, 3]])
    torch.testing.assert_close(batch.tensors, expected.tensors)


def test_a_disk_without_room_for_the_fields_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TASKGROUP_CACHE", str(tmp_path))
    example = PreparedRows.of(statistics=torch.zeros(1, 1 << 20))
    with pytest.raises(TaskgroupError, match="GB of prepared rows") as caught:
        device_rows._mapped_rows(example, 1 << 30)
    assert "\n" not in str(caught.value)


def test_the_device_is_the_one_asked_for_then_the_environments(monkeypatch):
    monkeypatch.setenv("TASKGROUP_DEVICE", "meta")
    assert pick_device("cpu") == CPU
    assert pick_device() == torch.device("meta")
    monkeypatch.delenv("TASKGROUP_DEVICE")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_cuda_asked_for_in_vain_is_refused():
    with pytest.raises(ConfigError, match="no CUDA device is available"):
        pick_device("cuda")
