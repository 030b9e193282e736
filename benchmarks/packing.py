"""Many small networks: trained at once in processes of one thread each, against one after the other with all threads.

    python benchmarks/packing.py [--networks 4] [--repeats 3] [--threads 2] [--json]

Both train the same jobs (one target, several seeds) an epoch of each in turn, as a trial of a study does, from warm
processes: libraries loaded, fields prepared. "one by one" gives every network all threads, the usual way. The two run
in turns within a repeat, so that what else the machine does hits them alike; ratios are medians (lowest-highest).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.models import ModelConfig
from taskgroup.search.lanes import Lanes, is_small
from taskgroup.search.worker import train_in_step
from taskgroup.training import GroupJob, TrainConfig

SIZES = ((8, 8, 12), (16, 8, 5), (16, 16, 4), (32, 8, 1))  # grid points an axis, width, epochs
SPLIT = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def make_jobs(dataset: Dataset, grid: int, width: int, epochs: int, networks: int) -> list[GroupJob]:
    """Equal networks of several seeds."""
    model, training = ModelConfig(grid=grid, width=width), TrainConfig(epochs=epochs)
    targets = ("band_gap", "bulk_modulus")
    return [GroupJob(targets, model, training, seed, dataset.name, dataset.hash, SPLIT) for seed in range(networks)]


def seconds(jobs: list[GroupJob], folder: Path, threads: int, beside: Lanes | None) -> float:
    """What training all of them takes. Raises RuntimeError: one failed."""
    failures: list[str] = []
    started = time.perf_counter()
    train_in_step(
        jobs,
        folder,
        lambda epoch, skills: True,
        lambda result: None,
        lambda key, kind, reason: failures.append(f"{kind}: {reason}"),
        threads=threads,
        beside=beside,
    )
    if failures:
        raise RuntimeError(failures[0])
    return time.perf_counter() - started


def measure(dataset: Dataset, size: tuple[int, int, int], folder: Path, beside: Lanes, arguments: argparse.Namespace):
    """Networks per hour of both ways at one size."""
    grid, width, epochs = size
    jobs = make_jobs(dataset, grid, width, epochs, arguments.networks)
    for lanes in (None, beside):  # warm-up
        seconds([_short(job) for job in jobs], folder, arguments.threads, lanes)
    times: dict[str, list[float]] = {"one_by_one": [], "packed": []}
    for _ in range(arguments.repeats):
        times["one_by_one"].append(seconds(jobs, folder, arguments.threads, None))
        times["packed"].append(seconds(jobs, folder, arguments.threads, beside))
    ratios = [a / b for a, b in zip(times["one_by_one"], times["packed"], strict=True)]
    epochs_done = arguments.networks * epochs
    return {
        "grid": grid,
        "width": width,
        "networks": arguments.networks,
        "packs": is_small(jobs[0]),
        **{f"{name}_epochs_per_s": epochs_done / statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def _short(job: GroupJob) -> GroupJob:
    data = job.to_dict()
    return GroupJob.from_dict(data | {"training": data["training"] | {"epochs": 1}})


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
    rows = []
    with tempfile.TemporaryDirectory() as name:
        beside = Lanes(Path(name))
        for size in SIZES:
            rows.append(row := measure(dataset, size, Path(name), beside, arguments))
            ratio = f"{row['ratio']:.2f}, {row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
            head = "grid  width  networks  one by one, epochs/s  packed, epochs/s   ratio, low-high\n"
            line = (
                f"{row['grid']:>4}  {row['width']:>5}  {row['networks']:>8}  {row['one_by_one_epochs_per_s']:>20.2f}  "
            )
            line += f"{row['packed_epochs_per_s']:>16.2f}  {ratio:>16}"
            print(
                (head if len(rows) == 1 else "") + line, file=sys.stderr if arguments.json else sys.stdout, flush=True
            )
        beside.close()
    if arguments.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
