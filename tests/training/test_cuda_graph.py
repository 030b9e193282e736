"""Steps recorded as CUDA graphs: that they can be (on any machine), and that they compute what they did (on a GPU)."""

import contextlib
import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taskgroup.datasets import TargetScaler, load_dataset
from taskgroup.models import CrystalBatch, ModelConfig, MultiTaskNetwork
from taskgroup.training import Checkpoint, Hook, device_rows, fit, fit_epochs, fit_halves
from taskgroup.training.balance import BALANCERS, make_balancer
from taskgroup.training.cuda_graph import CudaGraphCallable
from taskgroup.training.losses import TargetLosses
from taskgroup.training.optimise import move_average
from taskgroup.training.result import GroupResult

from .conftest import make_dataset, make_job, make_split

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TARGETS = ("band_gap", "bulk_modulus", "is_metal")
NETWORKS = {
    "msa3dcnn": {},
    "cartesian": {"view": "cartesian"},
    "attention": {"pooling": "attention"},
    "mean_max": {"pooling": "mean_max"},
    "radial3d": {"backbone": "radial3d", "reader": 8},
    **{name: {"backbone": name} for name in ("resnet3d", "convnext3d", "descriptors", "peaks")},
}


# ---- on any machine: tensors without values stand for those on a GPU


class _NothingAsked(TorchDispatchMode):
    """Fails where the host would ask the device for a number, or copy one to it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        name = function._schema.name
        assert "local_scalar" not in name, name
        assert "nonzero" not in name, name
        places = {
            t.device.type
            for t in tree_leaves((args, kwargs, found))
            if isinstance(t, torch.Tensor) and t.ndim
        }
        assert len(places) < 2, f"{name}: {places}"
        return found


@pytest.mark.parametrize("balance", ["mean", "uncertainty", "dwa"])
@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_a_step_asks_the_device_for_nothing(settings, balance, monkeypatch):
    if settings and balance != "mean":
        pytest.skip("one network will do")
    monkeypatch.setattr(
        torch, "is_autocast_enabled", lambda *device: False
    )  # nothing is known of it for these
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    dataset = load_dataset("crystals")
    table = dataset.targets.select(TARGETS)
    config = ModelConfig(**{"grid": 8, "width": 4} | settings)
    network = MultiTaskNetwork(
        config, table.specs, TargetScaler.fit(table.specs, table.values), dataset.n_channels
    )
    example = network.view.prepare(
        CrystalBatch(
            torch.tensor(dataset.densities([0])), torch.tensor(dataset.lattices[:1]).float()
        )
    )
    network.to("meta")
    losses = TargetLosses([spec.kind for spec in table.specs], "huber").to("meta")
    balancer = make_balancer(balance, len(TARGETS)).to("meta")
    assert balancer.stays_on_device
    rows = example.to("meta").empty_rows(16)
    lattice = torch.empty(16, 3, 3, device="meta")
    labels = torch.empty(16, len(TARGETS), device="meta")
    chosen = torch.empty(8, dtype=torch.int64, device="meta")
    with _NothingAsked():
        drawn, cells = network.view.augment(rows, lattice, None, None, chosen)
        features = network.features(drawn, cells)
        found = losses(network.heads(features), labels[chosen], labels[chosen])
        balancer.backward(
            found, features, list(network.trunk.parameters()), list(range(len(TARGETS)))
        )
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        move_average(network, network, torch.empty((), device="meta"))
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_elsewhere_a_function_runs_as_written():
    calls = []
    recorded = CudaGraphCallable(lambda x: calls.append(x) or x + 1, torch.device("cpu"))
    assert [recorded(torch.tensor(i)).item() for i in range(3)] == [1, 2, 3]
    assert len(calls) == 3


def test_halves_are_epochs_in_two(dataset, split):
    job = make_job(dataset, epochs=2)
    halves, whole = fit_halves(dataset, split, job), fit_epochs(dataset, split, job)
    for _ in range(2):
        assert next(halves) is None
        ours, theirs = next(halves), next(whole)
        assert (ours.epoch, ours.skills, ours.loss) == (theirs.epoch, theirs.skills, theirs.loss)
    with pytest.raises(StopIteration):
        next(halves)


# ---- on a GPU


def _on_stream(function):
    with torch.cuda.stream(torch.cuda.Stream()):
        found = function()
        torch.cuda.synchronize()
    return found


class _OnGpu:
    pytestmark = gpu
    device = "cuda"

    @pytest.fixture
    def as_written(self, monkeypatch):
        """The result of a job without recordings."""

        def run(dataset, split, job) -> GroupResult:
            with monkeypatch.context() as patch:
                patch.setenv("TASKGROUP_CUDA_GRAPHS", "0")
                return fit(dataset, split, job, device="cuda").result

        return run


class TestRecorded(_OnGpu):
    def test_calls_of_several_shapes_give_what_the_function_gives(self):
        calls, place = [], torch.device("cuda", 0)
        recorded = CudaGraphCallable(lambda x, y: calls.append(1) or (x * y).sum(0), place)

        def run():
            for size in (3, 4, 3, 4, 3, 4, 3):
                x, y = torch.randn(size, 5, device=place), torch.randn((), device=place)
                torch.testing.assert_close(recorded(x, y).clone(), (x * y).sum(0))

        _on_stream(run)
        assert len(calls) == 4  # as written and recorded, of two shapes
        assert recorded.memory > 0

    def test_draws_go_on_from_call_to_call(self):
        place = torch.device("cuda", 0)
        generator, twin = (torch.Generator(place).manual_seed(0) for _ in range(2))
        recorded = CudaGraphCallable(
            lambda x: x + torch.rand(5, generator=generator, device=place), place, [generator]
        )
        zero = torch.zeros(5, device=place)
        ours = _on_stream(lambda: [recorded(zero).clone() for _ in range(5)])
        theirs = [torch.rand(5, generator=twin, device=place) for _ in range(5)]
        torch.testing.assert_close(ours, theirs)

    def test_what_waits_for_the_device_runs_as_written_and_others_go_on(self, caplog):
        place = torch.device("cuda", 0)
        waits = CudaGraphCallable(lambda x: x * x.sum().item(), place)
        works = CudaGraphCallable(lambda x: x * torch.rand((), device=place).ceil(), place)
        one = torch.ones(3, device=place)
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                torch.testing.assert_close(_on_stream(lambda: waits(one).clone()), 3 * one)
                torch.testing.assert_close(_on_stream(lambda: works(one).clone()), one)
        assert [record.message.partition(":")[0] for record in caplog.records] == [
            "not recorded as a CUDA graph, slower"
        ]
        assert len(works._recordings) == 1
        assert (one.shape,) in works._recordings

    def test_without_room_nothing_is_recorded(self, monkeypatch):
        place, calls = torch.device("cuda", 0), []
        recorded = CudaGraphCallable(lambda x: calls.append(1) or x + 1, place)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (0, 1))
        for _ in range(3):
            assert _on_stream(lambda: recorded(torch.zeros((), device=place)).item()) == 1
        assert len(calls) == 3


class TestTraining(_OnGpu):
    @pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
    def test_a_recorded_run_is_the_run_as_written(self, settings, as_written):
        dataset = make_dataset(rows=90)
        split, job = make_split(dataset), make_job(dataset, epochs=4, batch_size=16, ema=0.9)
        job = type(job).from_dict(job.to_dict() | {"model": job.to_dict()["model"] | settings})
        plain, found = (
            as_written(dataset, split, job),
            fit(dataset, split, job, device="cuda").result,
        )
        assert found.peak_memory > 0
        torch.testing.assert_close(found.train_curve, plain.train_curve, rtol=0.02, atol=0.005)

    def test_it_is_recorded(self, monkeypatch):
        dataset = make_dataset()
        split, job = make_split(dataset), make_job(dataset, epochs=6)
        calls = []
        features = MultiTaskNetwork.features
        monkeypatch.setattr(
            MultiTaskNetwork, "features", lambda *given: calls.append(1) or features(*given)
        )
        fit(dataset, split, job, device="cuda")
        seen = len(calls)
        fit(dataset, split, make_job(dataset, epochs=12), device="cuda")
        assert len(calls) == 2 * seen  # no more for more epochs

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_it_learns(self, precision):
        dataset = make_dataset(rows=96)
        job = make_job(dataset, epochs=40, batch_size=16, lr=0.01, precision=precision)
        assert (
            min(fit(dataset, make_split(dataset), job, device="cuda").result.skills.values()) > 0.8
        )

    def test_it_is_as_good_as_on_a_cpu(self):
        dataset = make_dataset(rows=96)
        split, job = (
            make_split(dataset),
            make_job(dataset, epochs=60, batch_size=16, lr=0.005, augment=False),
        )
        ours, theirs = (
            fit(dataset, split, job, device=device).result.skills for device in ("cuda", "cpu")
        )
        assert ours == pytest.approx(theirs, abs=0.03)

    @pytest.mark.parametrize("balance", BALANCERS)
    def test_every_balancer_trains_where_labels_are_missing(self, balance, as_written):
        dataset = make_dataset()
        job = make_job(
            dataset, targets=("charge", "heavy", "sparse"), epochs=3, batch_size=6, balance=balance
        )
        plain = as_written(dataset, make_split(dataset), job)
        found = fit(dataset, make_split(dataset), job, device="cuda").result
        torch.testing.assert_close(found.train_curve, plain.train_curve, rtol=0.05, atol=0.01)

    @pytest.mark.parametrize("every", [1, 3])
    def test_a_hook_sees_its_steps_and_changes_nothing(self, every, as_written):
        dataset, steps = make_dataset(), []
        split, job = make_split(dataset), make_job(dataset, epochs=6, batch_size=8)

        class Diary(Hook):
            def looks_at(self, step):
                return step % every == 0

            def on_step(self, context):
                assert context.step % every == 0
                steps.append(context.losses.mean().item())

        found = fit(dataset, split, job, hooks=[Diary()], device="cuda").result
        assert len(steps) == 24 // every
        assert len(set(steps)) == len(steps)
        torch.testing.assert_close(
            found.train_curve, as_written(dataset, split, job).train_curve, rtol=0.02, atol=0.005
        )

    def test_runs_at_once_are_the_runs_alone(self):
        dataset = make_dataset()
        split = make_split(dataset)
        jobs = [make_job(dataset, epochs=6, seed=seed, batch_size=16) for seed in range(4)]
        alone = [fit(dataset, split, job, device="cuda").result for job in jobs]
        running = [fit_halves(dataset, split, job, device="cuda") for job in jobs]
        for _ in range(12):
            for halves in running:
                next(halves)
        for halves, expected in zip(running, alone, strict=True):
            with pytest.raises(StopIteration) as end:
                next(halves)
            torch.testing.assert_close(
                end.value.value.result.train_curve, expected.train_curve, rtol=0.02, atol=0.005
            )

    def test_fields_outside_the_device_train_the_same(self, as_written, monkeypatch):
        dataset = make_dataset(seed=3)  # one that is in no cache
        split, job = make_split(dataset), make_job(dataset, epochs=4)
        with monkeypatch.context() as patch:
            patch.setattr(device_rows, "_free_bytes", lambda device: 0)
            patch.setattr(device_rows, "load_prepared", lambda *key: None)
            found = fit(dataset, split, job, device="cuda").result
        monkeypatch.setattr(device_rows, "_cache", type(device_rows._cache)())
        plain = as_written(dataset, split, job)
        torch.testing.assert_close(found.train_curve, plain.train_curve, rtol=0.02, atol=0.005)

    def test_it_goes_on_from_a_checkpoint(self, tmp_path):
        dataset = make_dataset()
        split, job = make_split(dataset), make_job(dataset, epochs=8, ema=0.9, balance="dwa")
        whole = fit(dataset, split, job, device="cuda").result
        first = fit_epochs(
            dataset, split, job, device="cuda", checkpoint=Checkpoint(tmp_path / "half", seconds=0)
        )
        for _ in range(4):
            next(first)
        first.close()
        resumed = fit(dataset, split, job, device="cuda", checkpoint=tmp_path / "half").result
        torch.testing.assert_close(resumed.train_curve, whole.train_curve, rtol=0.02, atol=0.005)

    def test_pretrained_networks_on_peaks_train(self):
        dataset = load_dataset("crystals")
        job = make_job(dataset, targets=("band_gap", "density"), epochs=4, pretrain=2)
        settings = job.to_dict() | {
            "model": ModelConfig(backbone="peaks", width=8).model_dump(mode="json")
        }
        job = type(job).from_dict(settings | {"dataset": "crystals"})
        split = dataset.splits().split()
        assert fit(dataset, split, job, device="cuda").result.skills["density"] > 0.5
