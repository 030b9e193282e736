"""The fast training path is as accurate as a plain loop: circular Conv3d in float32, the same seed and batches."""

import importlib.util
from pathlib import Path
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig, fit
from taskgroup.training.loop import TrainingLoop
from taskgroup.training.metrics import mean_skill
from taskgroup.training.optimise import learning_rate

from .conftest import SPLIT, make_dataset, make_split

_BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "train_step.py"


def _field_typical(network):
    spec = importlib.util.spec_from_file_location("train_step", _BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.field_typical(network)


def _train_plainly(run):
    """Epoch by epoch, batch by batch, target by target; gives the last epoch's skills."""
    network, config = _field_typical(run.network), run.job.training
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "weight_decay": config.weight_decay if p.ndim > 1 else 0.0}
            for p in network.parameters()
        ],
        lr=config.lr,
        foreach=False,
    )
    prepared, lattice = run.data.batch(run.labels.train)
    rows = TensorDataset(*prepared.tensors, lattice, run.labels.values[run.labels.train])
    generator = torch.Generator().manual_seed(run.job.seed)
    for epoch in range(config.epochs):
        network.train()
        order = torch.randperm(len(rows), generator=generator)
        batches = [part.tolist() for part in order.tensor_split(run.batches.per_epoch)]
        for step, (*x, cell, y) in enumerate(DataLoader(rows, batch_sampler=batches)):
            outputs = network(prepared.with_tensors(x), cell)
            loss = (
                F.huber_loss(outputs[:, 0], y[:, 0])
                + F.huber_loss(outputs[:, 1], y[:, 1])
                + F.binary_cross_entropy_with_logits(outputs[:, 2], y[:, 2])
            ) / 3
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(
                    config,
                    epoch * run.batches.per_epoch + step,
                    config.epochs * run.batches.per_epoch,
                )
            optimizer.step()
    network.eval()
    with torch.no_grad():
        outputs = network(*run.data.batch(torch.as_tensor(run.validation.rows))).numpy()
    return run.validation.best.update(1, outputs)


def _jobs(backbone, dataset, epochs, seed):
    """The same job in float32 and in bfloat16."""
    model = ModelConfig(backbone=backbone, width=4, grid=8, features=16, head_width=8, dropout=0)
    for precision in ("float32", "bfloat16"):
        training = TrainConfig(
            epochs=epochs, batch_size=32, lr=0.003, augment=False, precision=precision
        )
        yield GroupJob(
            ("charge", "edge", "heavy"), model, training, seed, "synthetic", dataset.hash, SPLIT
        )


def _last_skills(dataset, job):
    """Of the plain loop and of the fast path."""
    split = make_split(dataset)
    plain = _train_plainly(TrainingLoop(dataset, split, job, torch.device("cpu"), ()))
    return plain, fit(dataset, split, job, device="cpu").result.curve[-1]


@pytest.mark.parametrize("backbone", ["resnet3d", "msa3dcnn"])
def test_the_fast_path_computes_what_the_plain_loop_computes(backbone):
    dataset = make_dataset(rows=160)
    job, _ = _jobs(backbone, dataset, epochs=2, seed=0)
    plain, fast = _last_skills(dataset, job)
    assert fast == pytest.approx(
        plain, abs=0.001
    )  # rounding, in another order, has not parted them yet


@pytest.mark.parametrize("backbone", ["resnet3d", "msa3dcnn"])
def test_the_fast_path_reaches_the_skill_of_the_plain_loop(backbone):
    """Rounding leads training elsewhere, and now and then a seed ends far lower, in either loop; the median must not.

    Of resnet3d over 24 seeds the means are .987 plain, .988 in float32, .984 in bfloat16; the lowest .958, .967, .921.
    """
    dataset = make_dataset(rows=160)
    split = make_split(dataset)
    plain, exact, rounded = [], [], []
    for seed in range(5):
        job, in_bfloat16 = _jobs(backbone, dataset, epochs=40, seed=seed)
        for skills, into in zip(_last_skills(dataset, job), (plain, exact), strict=True):
            into.append(mean_skill(skills))
        rounded.append(mean_skill(fit(dataset, split, in_bfloat16, device="cpu").result.curve[-1]))
    assert min(plain) > 0.95
    assert median(exact) == pytest.approx(median(plain), abs=0.01)
    assert median(rounded) > median(plain) - 0.01
