"""Random periodic densities in skewed cells, and small networks."""

import math

import pytest
import torch

from taskgroup.datasets import Target, TargetScaler
from taskgroup.models import CrystalBatch, ModelConfig, MultiTaskNetwork

torch.set_num_threads(1)

TARGETS = (
    Target("modulus", unit="GPa", transform="log10"),
    Target("energy", unit="eV"),
    Target("strain", transform="signed_log"),
    Target("metal", kind="classification"),
)
VALUES = [[10.0, -1.0, -5.0, 1], [100.0, 2.0, 0.5, 0], [1.0, 0.0, 30.0, 0], [20.0, 3.0, 1.0, 1]]


def make_cells(count, seed=0):
    """Skewed cells [count, 3, 3] of about 4 Å."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.diag(torch.tensor([3.5, 4.0, 4.8]))
        + torch.rand(count, 3, 3, generator=generator) * 0.8
    )


def make_densities(count, n=16, channels=1, seed=0):
    """Smooth positive densities [count, channels, n, n, n]: sums of a few plane waves on a background."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.arange(n) / n
    total = torch.full((count, channels, n, n, n), 2.0)
    for h in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 2), (2, -1, 1)):
        phase = torch.rand(count, channels, 1, 1, 1, generator=generator) * 2 * math.pi
        size = torch.rand(count, channels, 1, 1, 1, generator=generator) * 0.3
        wave = h[0] * x[:, None, None] + h[1] * x[:, None] + h[2] * x
        total = total + size * torch.cos(2 * math.pi * wave + phase)
    return total


def make_network(in_channels=1, targets=TARGETS, seed=0, **settings):
    """A small network of random weights in evaluation mode, whose scaler is fitted on ``VALUES``."""
    scaler = TargetScaler.fit(TARGETS, VALUES)
    columns = [TARGETS.index(target) for target in targets]
    scaler = TargetScaler(tuple(targets), scaler.mean[columns], scaler.std[columns])
    torch.manual_seed(seed)
    config = ModelConfig(**{"width": 4, "grid": 8, "features": 16, "head_width": 8} | settings)
    return MultiTaskNetwork(config, targets, scaler, in_channels).eval()


def train_a_little(network, density, lattice):
    """Fill running statistics: forward passes in training mode."""
    network.train()
    with torch.no_grad():
        rows = network.view.prepare(CrystalBatch(density, lattice))
        for _ in range(30):
            network(rows, lattice)
    return network.eval()


@pytest.fixture
def density():
    return make_densities(3)


@pytest.fixture
def lattice():
    return make_cells(3)
