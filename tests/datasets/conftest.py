"""Small synthetic datasets, and where the public reference data lies when it is there."""

from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, Target, TargetTable

REPOSITORY = Path(__file__).resolve().parents[2]


def make_dataset(n: int = 12, grid: int = 8, channels: int = 1, seed: int = 0) -> Dataset:
    """``n`` rows of positive random densities in random cells, with two targets and missing labels."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"row-{i:03d}" for i in range(n))
    specs = (
        Target("modulus", unit="GPa", transform="log10"),
        Target("is_metal", kind="classification"),
    )
    values = np.stack([10 ** rng.normal(1, 0.3, n), rng.integers(0, 2, n)], axis=1)
    values[rng.random((n, 2)) < 0.2] = np.nan
    densities = rng.random((n, channels, grid, grid, grid)) + 0.1
    if channels == 2:
        densities[::2, 1] = 0  # every other crystal is not magnetic
    return Dataset.from_arrays(
        name="synthetic",
        ids=ids,
        targets=TargetTable(specs, ids, values),
        densities=densities,
        lattices=4 * np.eye(3) + rng.normal(0, 0.2, (n, 3, 3)),
        formulas=[f"A{i // 2}B" for i in range(n)],
        chemical_systems=[f"A{i // 3}-B" for i in range(n)],
        species=[("Na", "Cl")] * n,
        frac_coords=rng.random((n, 2, 3)),
    )


@pytest.fixture
def shared() -> Path:
    """The folder of public reference data beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public reference data is not beside this repository")
    return folder
