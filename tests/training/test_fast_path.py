"""The fast training path is as accurate as a plain loop: circular Conv3d in float32, the same seed and batches."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig, fit
from taskgroup.training.optimise import learning_rate
from taskgroup.training.run import Run

from .conftest import SPLIT, make_dataset, make_split

_BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "train_step.py"


def _field_typical(network):
    spec = importlib.util.spec_from_file_location("train_step", _BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.field_typical(network)


def _train_plainly(run):
    """Epoch by epoch, batch by batch, target by target; gives the last epoch's skills."""
    network, config = _field_typical(run.network), run.config
    optimizer = torch.optim.AdamW(
        [{"params": [p], "weight_decay": config.weight_decay if p.ndim > 1 else 0.0} for p in network.parameters()],
        lr=config.lr,
        foreach=False,
    )
    fields, lattice = run.data.batch(run.labels.train)
    rows = TensorDataset(fields, lattice, run.labels.values[run.labels.train])
    generator = torch.Generator().manual_seed(run.job.seed)
    for epoch in range(config.epochs):
        network.train()
        order = torch.randperm(len(rows), generator=generator)
        batches = [part.tolist() for part in order.tensor_split(run.batches)]
        for step, (x, cell, y) in enumerate(DataLoader(rows, batch_sampler=batches)):
            outputs = network(x, cell)
            loss = (
                F.huber_loss(outputs[:, 0], y[:, 0])
                + F.huber_loss(outputs[:, 1], y[:, 1])
                + F.binary_cross_entropy_with_logits(outputs[:, 2], y[:, 2])
            ) / 3
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, epoch * run.batches + step, config.epochs * run.batches)
            optimizer.step()
    network.eval()
    with torch.no_grad():
        outputs = network(*run.data.batch(run.validation_rows)).numpy()
    return run.choice.see(1, outputs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone", ["resnet3d", "msa3dcnn"])
def test_the_fast_path_reaches_the_skill_of_the_plain_loop(backbone, precision):
    dataset = make_dataset(rows=160)
    model = ModelConfig(backbone=backbone, width=4, grid=8, features=16, head_width=8, dropout=0)
    training = TrainConfig(epochs=25, batch_size=32, lr=0.01, augment=False, precision=precision)
    job = GroupJob(("charge", "edge", "heavy"), model, training, 0, "synthetic", dataset.hash, SPLIT)
    split = make_split(dataset)
    plain = _train_plainly(Run(dataset, split, job, torch.device("cpu"), ()))
    fast = fit(dataset, split, job, device="cpu").result.curve[-1]
    assert min(plain.values()) > 0.8
    if precision == "float32":  # the same computation in another order
        assert fast == pytest.approx(plain, abs=0.001)
    for target, skill in plain.items():  # rounding makes another path through training, which must not end lower
        assert fast[target] > skill - 0.01, target
