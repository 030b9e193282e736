"""A small dataset, networks of random weights, and a bundle of them: an ensemble of two, with a helper."""

from pathlib import Path

import numpy as np
import pytest
import torch

from taskgroup.datasets import Dataset, Target, TargetScaler, TargetTable
from taskgroup.export import Bundle, BundleSpec, DensityFormat, save_bundle
from taskgroup.grouping import Group, Grouping
from taskgroup.models import ModelConfig, MultiTaskNetwork

torch.set_num_threads(1)

GRID = 8
SPECS = (
    Target("modulus", unit="GPa", transform="log10"),
    Target("energy", unit="eV/atom"),
    Target("strain", unit="", transform="signed_log"),
    Target("metal", kind="classification"),
)
METAL = Group(("energy", "metal"), ("metal",))
GROUPING = Grouping((Group(("modulus", "strain")), Group(("energy",)), METAL))


def _dataset(
    rows: int = 12, channels: int = 1, kind: str = "valence", name: str = "toy"
) -> Dataset:
    random = np.random.default_rng(0)
    energy = random.normal(size=rows)
    values = np.stack([10 ** random.normal(1, 0.5, rows), energy, 10 * energy, energy > 0], axis=1)
    values[3, 0] = np.nan
    table = TargetTable(SPECS, [f"row{i}" for i in range(rows)], values)
    densities = random.uniform(0.1, 1, (rows, channels, GRID, GRID, GRID))
    lattices = random.uniform(3, 6, (rows, 1, 1)) * np.eye(3)
    names = [f"X{i}" for i in range(rows)]
    species = [["Si"]] * rows
    return Dataset.from_arrays(
        name,
        table.ids,
        table,
        densities,
        lattices,
        names,
        names,
        species=species,
        frac_coords=[[[0, 0, 0]]] * rows,
        kind=kind,
    )


def _network(group: Group, seed: int, dataset: Dataset) -> MultiTaskNetwork:
    specs = [dataset.targets.spec(name) for name in group.targets]
    values = np.stack([dataset.targets.column(name) for name in group.targets], axis=1)
    torch.manual_seed(seed)
    config = ModelConfig(backbone="resnet3d", width=4, stages=1, grid=4, features=8, head_width=4)
    return MultiTaskNetwork(
        config, specs, TargetScaler.fit(specs, values), dataset.n_channels
    ).eval()


def _bundle(dataset: Dataset, members: int = 2, **changes) -> Bundle:
    fields = {
        "name": "toy-study", "grouping": GROUPING, "targets": SPECS, "density": DensityFormat.of(dataset),
        "dataset": {"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        "split": {"id": "abc", "by": "formula"}, "seen_ids": dataset.ids[:8],
        "residuals": {"modulus": 0.2, "energy": 0.3, "strain": 0.1},
        "metrics": {"test": {"energy": {"n": 4, "skill": 0.5, "low": 0.1, "high": 0.8, "mae": 0.2}}},
        "provenance": {"seeds": [0, 1]},
    }  # fmt: skip
    networks = {
        group: [_network(group, seed, dataset) for seed in range(members)]
        for group in GROUPING.groups
    }
    return Bundle(BundleSpec(**(fields | changes)), networks)


@pytest.fixture
def make_dataset():
    return _dataset


@pytest.fixture
def make_bundle():
    return _bundle


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return _dataset()


@pytest.fixture(scope="session")
def bundle(dataset) -> Bundle:
    return _bundle(dataset)


@pytest.fixture
def saved(bundle, tmp_path) -> Path:
    return save_bundle(tmp_path / "model", bundle.spec, bundle.members)
