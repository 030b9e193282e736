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
from taskgroup.execution import ProcessExecutor
from taskgroup.execution.executor import all_go_on
from taskgroup.execution.worker import is_small, job_data
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig, fit, pick_device
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


def one_after_another(jobs: Sequence[GroupJob], threads: int) -> None:
    """Train jobs in this process, each with all threads."""
    torch.set_num_threads(threads)
    for job in jobs:
        fit(*job_data(job), job)


def packed(jobs: Sequence[GroupJob], executor: ProcessExecutor) -> None:
    """Train jobs as a trial of a study does. Raises RuntimeError: one failed."""
    failures = executor.train(jobs, all_go_on, lambda result: None)
    for failure in failures.values():
        raise RuntimeError(f"{failure.kind}: {failure.reason}")


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
    executor: ProcessExecutor,
    arguments: argparse.Namespace,
) -> dict[str, object]:
    """Epochs of a network per second at one size, all ways."""
    grid, width, epochs = size
    jobs = make_jobs(dataset, grid, width, epochs, arguments.networks)
    on_gpu = pick_device().type == "cuda"

    def rate_of(
        train: Callable[[Sequence[GroupJob]], None], jobs: Sequence[GroupJob], graphs: bool
    ) -> Callable[[], float]:
        def run(jobs: Sequence[GroupJob]) -> None:
            os.environ["TASKGROUP_CUDA_GRAPHS"] = str(int(graphs))
            train(jobs)

        def measured() -> float:
            started = time.perf_counter()
            run(jobs)
            return sum(job.training.epochs for job in jobs) / (time.perf_counter() - started)

        run([_short(job, 1) for job in jobs])  # warm-up
        return measured

    def alone(jobs: Sequence[GroupJob]) -> None:
        one_after_another(jobs, arguments.threads)

    def together(jobs: Sequence[GroupJob]) -> None:
        packed(jobs, executor)

    one_by_one = [_short(jobs[0], 4)] if on_gpu else jobs  # on a GPU too slow for more
    ways = {}
    if on_gpu:
        ways["recorded"] = rate_of(alone, jobs[:2], True)
    ways["one_by_one"] = rate_of(alone, one_by_one, False)
    ways["packed"] = rate_of(together, jobs, True)
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
        executor = ProcessExecutor(Path(name), threads=arguments.threads)
        for size in sizes:
            rows.append(row := measure(dataset, size, executor, arguments))
            print(
                _line(row, header=len(rows) == 1),
                file=sys.stderr if arguments.json else sys.stdout,
                flush=True,
            )
        executor.close()
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
