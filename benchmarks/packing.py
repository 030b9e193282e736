"""Many small networks: trained at once, against one after the other.

    python benchmarks/packing.py [--networks 4] [--repeats 3] [--threads 2] [--json]

All ways train equal networks (two targets, several seeds) from warm processes: libraries loaded, fields prepared.
"usual" is the field-typical loop of train_step.py, one network after the other with all threads (it does not validate).
"one by one" is ours in that way: on a CPU every network gets all threads, on a GPU its operations are asked for one
after the other. "packed" is what a trial of a study does: on a CPU processes of one thread each, on a GPU all networks
at once, their steps recorded as CUDA graphs; "recorded" there are such steps, one network after the other. The ways run
in turns within a repeat, so that what else the machine does hits them alike; ratios over one by one, and of packed over
usual, are medians (lowest-highest).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from train_step import typical_epochs

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.execution.worker import train_in_step
from taskgroup.execution.worker_pool import WorkerPool, is_small
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig, pick_device
from taskgroup.training.loop import TrainingLoop

SIZES = (
    (8, 8, 12),
    (16, 8, 8),
    (16, 16, 4),
    (16, 64, 2),
    (32, 8, 2),
)  # grid points an axis, width, epochs
GPU_SIZES = ((32, 8, 30), (32, 16, 30), (0, 16, 30), (16, 16, 30), (8, 8, 30))  # grid 0: on peaks
SPLIT = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def make_jobs(
    dataset: Dataset, grid: int, width: int, epochs: int, networks: int
) -> list[GroupJob]:
    """Equal networks of several seeds."""
    model = (
        ModelConfig(grid=grid, width=width) if grid else ModelConfig(backbone="peaks", width=width)
    )
    training, targets = TrainConfig(epochs=epochs), ("band_gap", "bulk_modulus")
    return [
        GroupJob(targets, model, training, seed, dataset.name, dataset.hash, SPLIT)
        for seed in range(networks)
    ]


def seconds(
    parts: Sequence[Sequence[GroupJob]], folder: Path, threads: int, beside: WorkerPool | None
) -> float:
    """What training all of them takes, one part after the other. Raises RuntimeError: one failed."""
    failures: list[str] = []
    started = time.perf_counter()
    for jobs in parts:
        train_in_step(
            jobs,
            folder,
            lambda epoch, skills: skills,
            lambda result: None,
            lambda key, kind, reason: failures.append(f"{kind}: {reason}"),
            threads=threads,
            beside=beside,
        )
    if failures:
        raise RuntimeError(failures[0])
    return time.perf_counter() - started


def usual_epochs_per_s(dataset: Dataset, job: GroupJob, epochs: int) -> Callable[[], float]:
    """A measurement of the field-typical loop."""
    typical = typical_epochs(
        TrainingLoop(dataset, dataset.splits().split(), job, pick_device(), ())
    )
    next(typical)  # warm-up: workers started

    def measured() -> float:
        started = time.perf_counter()
        for _ in range(epochs):
            next(typical)
        return epochs / (time.perf_counter() - started)

    return measured


def measure(
    dataset: Dataset,
    size: tuple[int, int, int],
    folder: Path,
    beside: WorkerPool,
    arguments: argparse.Namespace,
):
    """Epochs of a network per second at one size, all ways."""
    grid, width, epochs = size
    jobs, on_gpu = (
        make_jobs(dataset, grid, width, epochs, arguments.networks),
        pick_device().type == "cuda",
    )

    def ours(
        parts: Sequence[Sequence[GroupJob]], lanes: WorkerPool | None, graphs: bool
    ) -> Callable[[], float]:
        def measured(parts: Sequence[Sequence[GroupJob]] = parts) -> float:
            os.environ["TASKGROUP_CUDA_GRAPHS"] = str(int(graphs))
            took = seconds(parts, folder, arguments.threads, lanes)
            return sum(job.training.epochs for part in parts for job in part) / took

        measured([[_short(job, 1) for job in part] for part in parts])  # warm-up
        return measured

    one_by_one = (
        [[_short(jobs[0], 4)]] if on_gpu else [[job] for job in jobs]
    )  # on a GPU too slow for more
    ways = {"one_by_one": ours(one_by_one, None, False), "packed": ours([jobs], beside, True)}
    if on_gpu:
        ways = {"recorded": ours([[job] for job in jobs[:2]], None, True)} | ways
    if grid:
        ways["usual"] = usual_epochs_per_s(dataset, _short(jobs[0], 10_000), max(1, epochs // 4))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            rates[name].append(way())
    row: dict[str, object] = {
        "grid": grid,
        "width": width,
        "networks": len(jobs),
        "packs": is_small(jobs[0]),
    }
    row |= {f"{name}_epochs_per_s": statistics.median(values) for name, values in rates.items()}
    for name, peer in (("recorded", "one_by_one"), ("packed", "one_by_one"), ("packed", "usual")):
        if name in ways and peer in ways:
            ratios = [a / b for a, b in zip(rates[name], rates[peer], strict=True)]
            row[f"{name}_over_{peer}"] = [statistics.median(ratios), min(ratios), max(ratios)]
    return row


def _short(job: GroupJob, epochs: int) -> GroupJob:
    data = job.to_dict()
    return GroupJob.from_dict(data | {"training": data["training"] | {"epochs": epochs}})


def main() -> None:
    """Measure all sizes and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset = load_dataset("crystals")
    sizes = GPU_SIZES if pick_device().type == "cuda" else SIZES
    rows = []
    with tempfile.TemporaryDirectory() as name:
        beside = WorkerPool(Path(name))
        for size in sizes:
            rows.append(row := measure(dataset, size, Path(name), beside, arguments))
            print(
                _line(row, header=len(rows) == 1),
                file=sys.stderr if arguments.json else sys.stdout,
                flush=True,
            )
        beside.close()
    if arguments.json:
        print(json.dumps(rows))


def _line(row: dict[str, object], header: bool) -> str:
    """One line of the table, below the names of the columns if asked."""
    columns = {name: f"{row[name]:>8}" for name in ("grid", "width", "networks")}
    for way in ("usual", "one_by_one", "recorded", "packed"):
        if f"{way}_epochs_per_s" in row:
            columns[f"{way}, epochs/s"] = f"{row[f'{way}_epochs_per_s']:.2f}".rjust(len(way) + 10)
    for name, value in row.items():
        if isinstance(value, list):
            columns[name] = f"{value[0]:.2f} ({value[1]:.2f}-{value[2]:.2f})".rjust(len(name))
    names = (
        "  ".join(name.rjust(len(value)) for name, value in columns.items()) + "\n"
        if header
        else ""
    )
    return names + "  ".join(columns.values())


if __name__ == "__main__":
    main()
