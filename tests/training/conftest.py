"""A small synthetic dataset whose targets a tiny network can learn, and jobs on it."""

import os

import numpy as np
import pytest
import torch

from taskgroup.datasets import Dataset, Target, TargetTable
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig

torch.set_num_threads(1)

SPECS = (
    Target("charge", unit="e"),
    Target("edge", unit="Å", transform="log10"),
    Target("heavy", kind="classification"),
    Target("sparse", unit="e"),
)
SPLIT = {"by": "random", "folds": 4, "seed": 0, "test_fold": 0, "validation_fold": 1}
MODEL = {"backbone": "resnet3d", "width": 4, "grid": 8, "head_width": 8, "features": 16}


def make_dataset(rows=64, seed=0, grid=8, values=None):
    """Cubic cells with one Gaussian of random charge and width; ``sparse`` has a label in every fourth row."""
    random = np.random.default_rng(seed)
    charge, edge, width = (
        random.uniform(1, 10, rows),
        random.uniform(3, 6, rows),
        random.uniform(0.15, 0.3, rows),
    )
    x = (np.arange(grid) + 0.5) / grid - 0.5
    r2 = x[:, None, None] ** 2 + x[:, None] ** 2 + x**2
    shape = np.exp(-r2 / (2 * width[:, None, None, None] ** 2))
    density = (
        shape
        / shape.sum((1, 2, 3), keepdims=True)
        * grid**3
        * (charge / edge**3)[:, None, None, None]
    )
    truth = np.stack([charge, edge, charge > 5.5, charge], axis=1)
    truth[np.arange(rows) % 4 > 0, 3] = np.nan
    table = TargetTable(
        SPECS, [f"row{i}" for i in range(rows)], truth if values is None else values
    )
    names = [f"X{i}" for i in range(rows)]
    lattices = edge[:, None, None] * np.eye(3)
    return Dataset.from_arrays(
        "synthetic", table.ids, table, density[:, None], lattices, names, names
    )


def make_split(dataset):
    """The split of ``SPLIT``."""
    return dataset.splits(by="random", folds=4, seed=0).split(test_fold=0, validation_fold=1)


def make_job(dataset, targets=("charge", "edge", "heavy"), seed=0, **training):
    """A job on a tiny network, in float32 whatever the machine; the rest are settings of TrainConfig."""
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.01, "precision": "float32"} | training
    return GroupJob(
        targets,
        ModelConfig(**MODEL),
        TrainConfig(**settings),
        seed,
        "synthetic",
        dataset.hash,
        SPLIT,
    )


@pytest.fixture(scope="session")
def dataset():
    return make_dataset()


@pytest.fixture(scope="session")
def split(dataset):
    return make_split(dataset)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    """Bit-equal results are promised on CPUs."""
    monkeypatch.setenv("TASKGROUP_DEVICE", "cpu")


@pytest.fixture(scope="session")
def device():
    """The CPU, or what TASKGROUP_TEST_DEVICE names."""
    return os.environ.get("TASKGROUP_TEST_DEVICE", "cpu")
