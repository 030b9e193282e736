"""The training step end to end against the loop one usually finds: the same network, data and batches.

    python benchmarks/train_step.py [--seconds 10] [--repeats 5] [--sizes 16,8 32,16] [--device cpu] [--json]

Field-typical: a DataLoader with two workers (eight and pinned memory for a GPU), float32, nn.Conv3d with circular
padding, the augmentation of each sample in Python (numpy), losses target by target, ``.item()`` at every step. Bare:
forward and backward of the network alone on one batch that lies ready, in the precision and layout that taskgroup
trains in; on a GPU recorded as a CUDA graph, which is as fast as that network gets. All three run in turns, so that
what else the machine does hits them alike. Rates are training samples per second; the spread is over repeats.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from types import MethodType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.models import ModelConfig, MultiTaskNetwork, PreparedRows
from taskgroup.models.attention import ChannelAttention, SpatialAttention
from taskgroup.models.backbones.msa3dcnn import MultiScaleBlock
from taskgroup.models.layers import PeriodicConv3d
from taskgroup.models.pooling import DistributionPool
from taskgroup.training import GroupJob, TrainConfig, pick_device
from taskgroup.training.loop import TrainingLoop
from taskgroup.training.optimise import use_bfloat16

SIZES = ((8, 8), (16, 8), (16, 16), (32, 8))  # grid points an axis, width
TARGETS = ("band_gap", "bulk_modulus", "density", "is_metal", "volume")
SPLIT = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def make_job(dataset: Dataset, grid: int, width: int, **training: object) -> GroupJob:
    """The job that is timed: the default backbone at this grid and width."""
    model = ModelConfig(grid=grid, width=width)
    return GroupJob(TARGETS, model, TrainConfig(**training), 0, dataset.name, dataset.hash, SPLIT)


def field_typical(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """A copy with the same weights, written as its formulas say.

    Convolutions are nn.Conv3d with circular padding in the default layout, attention and pooling are plain autograd.
    """
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    use_bfloat16(network, False)
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, PeriodicConv3d):
                setattr(parent, name, _circular(module))
            elif type(module) in _PLAIN:
                module.forward = MethodType(_PLAIN[type(module)], module)
    return network


def _plain_channels(module: ChannelAttention, x: Tensor) -> Tensor:
    scores = module.weigh(x.mean((2, 3, 4))) + module.weigh(x.amax((2, 3, 4)))
    return x * scores.sigmoid()[:, :, None, None, None]


def _plain_places(module: SpatialAttention, x: Tensor) -> Tensor:
    return x * module.weigh(torch.stack([x.mean(1), x.amax(1)], dim=1)).sigmoid()


def _plain_block(module: MultiScaleBlock, x: Tensor) -> Tensor:
    scales = module.act(module.norm(torch.cat([branch(x) for branch in module.branches], dim=1)))
    return module.act(x + module.places(module.channels(module.mix_norm(module.mix(scales)))))


_PLAIN = {
    MultiScaleBlock: _plain_block,
    ChannelAttention: _plain_channels,
    SpatialAttention: _plain_places,
    DistributionPool: DistributionPool.plainly,
}


def _circular(module: PeriodicConv3d) -> nn.Conv3d:
    size = module.kernel_size[0]
    if size % 2 == 0:
        raise NotImplementedError(f"convolution of even size {size}")
    plain = nn.Conv3d(
        module.in_channels,
        module.out_channels,
        size,
        stride=module.stride,
        padding=module.dilation[0] * (size // 2),
        dilation=module.dilation,
        groups=module.groups,
        bias=module.bias is not None,
        padding_mode="circular",
    ).to(module.weight.device)
    plain.load_state_dict(module.state_dict())
    return plain


class Samples(TorchDataset):
    """One sample at a time, augmented in numpy."""

    def __init__(self, run: TrainingLoop) -> None:
        rows = run.data.rows
        self.grid = rows["grid"].cpu().contiguous().numpy()
        self.statistics = rows["statistics"].cpu().numpy()
        self.lattice = run.data.lattice.cpu().numpy()
        self.labels = np.where(
            run.labels.present.cpu().numpy() > 0, run.labels.values.cpu().numpy(), np.nan
        )
        self.rows = run.labels.train.cpu().numpy()
        self.augment = run.job.training.augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        row = self.rows[index]
        grid, lattice = self.grid[row], self.lattice[row]
        if self.augment:
            axes = np.random.permutation(3)
            grid = grid.transpose(0, *(axes + 1))
            grid = np.roll(grid, np.random.randint(grid.shape[-1], size=3), axis=(1, 2, 3))
            lattice = lattice[axes]
            for axis in range(3):
                if np.random.rand() < 0.5:
                    grid = np.flip(grid, axis + 1)
                    lattice = lattice * np.where(np.arange(3) == axis, -1, 1)[:, None]
        return tuple(
            torch.from_numpy(np.array(part, dtype=np.float32))
            for part in (grid, self.statistics[row], lattice, self.labels[row])
        )


def typical_epochs(run: TrainingLoop) -> Iterator[MultiTaskNetwork]:
    """The usual loop, an epoch each time it is advanced; yields the network."""
    on_gpu = run.device.type == "cuda"
    network = field_typical(run.network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=run.job.training.lr, weight_decay=run.job.training.weight_decay
    )
    steps = run.job.training.epochs * run.batches.per_epoch
    warm = max(1, round(run.job.training.warmup * steps))
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, total_iters=warm)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warm])
    loader = DataLoader(
        Samples(run),
        run.job.training.batch_size,
        shuffle=True,
        num_workers=8 if on_gpu else 2,
        drop_last=True,
        persistent_workers=True,
        pin_memory=on_gpu,
    )
    kinds = [spec.kind for spec in run.table.specs]
    while True:
        network.train()
        running = 0.0
        for batch in loader:
            grid, statistics, lattice, labels = (
                part.to(run.device, non_blocking=True) for part in batch
            )
            outputs = network(PreparedRows.of(grid=grid, statistics=statistics), lattice)
            losses = []
            for i, kind in enumerate(kinds):
                there = ~torch.isnan(labels[:, i])
                if there.any():
                    loss = (
                        F.binary_cross_entropy_with_logits
                        if kind == "classification"
                        else F.huber_loss
                    )
                    losses.append(loss(outputs[there, i], labels[there, i]))
            total = sum(losses) / len(kinds)
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(network.parameters(), run.job.training.grad_clip)
            optimizer.step()
            schedule.step()
            running += total.item()
        yield network


def bare_step(run: TrainingLoop) -> Callable[[], None]:
    """Forward and backward of the network on one batch, nothing else."""
    network = copy.deepcopy(run.network).train()
    rows = run.labels.train[: run.job.training.batch_size]
    prepared, lattice = run.data.batch(rows)

    def step() -> None:
        for parameter in network.parameters():
            parameter.grad = None
        network(prepared, lattice).sum().backward()

    if run.device.type != "cuda":
        return step
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def samples_per_second(work: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Repeat work, which returns how many samples it took, for about so long."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronise()
    started, samples = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        samples += work()
        synchronise()
    return samples / (time.perf_counter() - started)


def measure(
    dataset: Dataset, grid: int, width: int, arguments: argparse.Namespace
) -> dict[str, object]:
    """Rates of taskgroup, the typical loop and the bare backbone at one size."""
    device = pick_device(arguments.device)
    job = make_job(dataset, grid, width, epochs=10_000)
    run = TrainingLoop(dataset, dataset.splits().split(), job, device, ())
    typical, bare = typical_epochs(run), bare_step(run)
    rows, batch = len(run.labels.train), run.job.training.batch_size

    def ours() -> int:
        with run.isolation.active():
            float(run.train())
        return rows

    def theirs() -> int:
        next(typical)
        return rows // batch * batch

    def backbone() -> int:
        for _ in range(run.batches.per_epoch):
            bare()
        return batch * run.batches.per_epoch

    peers = {"taskgroup": ours, "typical": theirs, "bare": backbone}
    for work in [*peers.values()] * 2:  # warm-up: kernels chosen, workers started, steps recorded
        work()
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(arguments.repeats):
        for name, work in peers.items():
            rates[name].append(
                samples_per_second(work, arguments.seconds / arguments.repeats, device)
            )
    over_typical = [a / b for a, b in zip(rates["taskgroup"], rates["typical"], strict=True)]
    over_bare = [a / b for a, b in zip(rates["taskgroup"], rates["bare"], strict=True)]
    medians = {f"{name}_samples_per_s": statistics.median(values) for name, values in rates.items()}
    return {
        "grid": grid,
        "width": width,
        "parameters": sum(p.numel() for p in run.network.parameters()),
        "batch": batch,
        "precision": "bfloat16" if run.bfloat16 else "float32",
        **medians,
        "ratio": statistics.median(over_typical),
        "ratio_low": min(over_typical),
        "ratio_high": max(over_typical),
        "share_of_bare": statistics.median(over_bare),
        "share_low": min(over_bare),
        "share_high": max(over_bare),
    }


def main() -> None:
    """Measure all sizes and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring a peer at a size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--sizes", nargs="+", metavar="GRID,WIDTH", help="like 16,8 32,16")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dataset = load_dataset("crystals")
    rows = []
    sizes = (
        [tuple(map(int, size.split(","))) for size in arguments.sizes] if arguments.sizes else SIZES
    )
    for grid, width in sizes:
        rows.append(measure(dataset, grid, width, arguments))
        print(
            _line(rows[-1], header=len(rows) == 1),
            file=sys.stderr if arguments.json else sys.stdout,
            flush=True,
        )
    if arguments.json:
        print(json.dumps(rows))


def _line(row: dict[str, object], header: bool) -> str:
    """One line of the table, below the names of the columns if asked."""
    columns = {
        "grid": f"{row['grid']:>4}",
        "width": f"{row['width']:>5}",
        "parameters": f"{row['parameters']:>10}",
        "precision": f"{row['precision']:>9}",
        "typical/s": f"{row['typical_samples_per_s']:>9.0f}",
        "taskgroup/s": f"{row['taskgroup_samples_per_s']:>11.0f}",
        "ratio, low-high": f"{row['ratio']:.2f}, {row['ratio_low']:.2f}-{row['ratio_high']:.2f}".rjust(
            15
        ),
        "bare/s": f"{row['bare_samples_per_s']:>6.0f}",
        "share of bare": f"{row['share_of_bare']:.0%}, {row['share_low']:.0%}-{row['share_high']:.0%}".rjust(
            13
        ),
    }
    names = (
        "  ".join(name.rjust(len(value)) for name, value in columns.items()) + "\n"
        if header
        else ""
    )
    return names + "  ".join(columns.values())


if __name__ == "__main__":
    main()
