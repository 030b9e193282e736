"""Many small networks: trained at once, against one after the other.

    python benchmarks/packing.py [--networks 4] [--repeats 3] [--threads 2] [--json]

All ways train the same jobs (two targets, several seeds) from warm processes: libraries loaded, fields prepared. "one
by one" is the usual way: on a CPU every network gets all threads, on a GPU its operations are asked for one after the
other. "packed" is what a trial of a study does: on a CPU processes of one thread each, on a GPU all networks at once,
their steps recorded as CUDA graphs; "recorded" there are such steps, one network after the other. The ways run in turns
within a repeat, so that what else the machine does hits them alike; ratios over one by one are medians
(lowest-highest).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.models import ModelConfig
from taskgroup.search.lanes import Lanes, is_small
from taskgroup.search.worker import train_in_step
from taskgroup.training import GroupJob, TrainConfig, pick_device

SIZES = ((8, 8, 12), (16, 8, 5), (16, 16, 4), (32, 8, 1))  # grid points an axis, width, epochs
GPU_SIZES = ((8, 8, 30), (16, 16, 30), (32, 8, 30), (32, 16, 30), (0, 16, 30))  # grid 0: on peaks
SPLIT = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def make_jobs(dataset: Dataset, grid: int, width: int, epochs: int, networks: int) -> list[GroupJob]:
    """Equal networks of several seeds."""
    model = ModelConfig(grid=grid, width=width) if grid else ModelConfig(backbone="peaks", width=width)
    training, targets = TrainConfig(epochs=epochs), ("band_gap", "bulk_modulus")
    return [GroupJob(targets, model, training, seed, dataset.name, dataset.hash, SPLIT) for seed in range(networks)]


def seconds(parts: Sequence[Sequence[GroupJob]], folder: Path, threads: int, beside: Lanes | None) -> float:
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


def measure(dataset: Dataset, size: tuple[int, int, int], folder: Path, beside: Lanes, arguments: argparse.Namespace):
    """Epochs of a network per second at one size, all ways."""
    grid, width, epochs = size
    jobs = make_jobs(dataset, grid, width, epochs, arguments.networks)
    one_by_one = [[job] for job in jobs]
    ways = {"one_by_one": (one_by_one, None, "0"), "packed": ([jobs], beside, "1")}
    if pick_device().type == "cuda":  # a network after the other needs but few of them
        ways = {"one_by_one": ([[_short(jobs[0], 4)]], None, "0"), "recorded": (one_by_one[:2], None, "1")} | {
            "packed": ways["packed"]
        }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, (parts, lanes, graphs) in ways.items():
            os.environ["TASKGROUP_CUDA_GRAPHS"] = graphs
            todo = parts if repeat else [[_short(job, 1) for job in part] for part in parts]  # the first warms up
            took = seconds(todo, folder, arguments.threads, lanes)
            if repeat:
                rates[name].append(sum(job.training.epochs for part in todo for job in part) / took)
    row: dict[str, object] = {"grid": grid, "width": width, "networks": len(jobs), "packs": is_small(jobs[0])}
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(values, rates["one_by_one"], strict=True)]
        row[f"{name}_epochs_per_s"] = statistics.median(values)
        row[f"{name}_ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
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
        beside = Lanes(Path(name))
        for size in sizes:
            rows.append(row := measure(dataset, size, Path(name), beside, arguments))
            print(_line(row, header=len(rows) == 1), file=sys.stderr if arguments.json else sys.stdout, flush=True)
        beside.close()
    if arguments.json:
        print(json.dumps(rows))


def _line(row: dict[str, object], header: bool) -> str:
    """One line of the table, below the names of the columns if asked."""
    columns = {name: f"{row[name]:>8}" for name in ("grid", "width", "networks")}
    columns["one by one, epochs/s"] = f"{row['one_by_one_epochs_per_s']:>20.2f}"
    for name in ("recorded", "packed"):
        if f"{name}_ratio" in row:
            middle, low, high = row[f"{name}_ratio"]
            columns[f"{name}, epochs/s"] = f"{row[f'{name}_epochs_per_s']:>18.2f}"
            columns["ratio, low-high" + " " * (name == "packed")] = f"{middle:.2f}, {low:.2f}-{high:.2f}".rjust(18)
    names = "  ".join(name.rjust(len(value)) for name, value in columns.items()) + "\n" if header else ""
    return names + "  ".join(columns.values())


if __name__ == "__main__":
    main()
