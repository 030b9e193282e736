"""Settings of every test, and a small dataset that trains in a blink with studies on it."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, Target, TargetTable, write_store
from taskgroup.spec.config import StudyConfig, load_study

N, GRID = 40, 8
SPACE = {
    "grouping": {
        "sparsifier": "threshold",
        "threshold": {"choices": [0.2, 0.6]},
        "method": {"choices": ["louvain", "hierarchical"]},
        "k": {"choices": [2, 3], "when": {"method": "hierarchical"}},
    },
    "model": {"backbone": "descriptors", "widths": [], "fields": ["density"], "head_width": 4},
    "training": {"epochs": 4, "batch_size": 16, "lr": {"choices": [0.01, 0.003]}},
}


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Prepared rows of tests stay out of the user's cache; workers inherit the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKGROUP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive():
    """A shell starts jobs in the background deaf to Ctrl-C, and what they start, too; tests of interrupts need it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def small_dataset() -> Dataset:
    """Densities whose mean, spread and cell decide four targets, two of them much alike."""
    random = np.random.default_rng(0)
    level, spread, edge = (
        random.uniform(0.5, 2, N),
        random.uniform(0.1, 0.5, N),
        random.uniform(3, 5, N),
    )
    densities = level[:, None, None, None, None] * (
        1 + spread[:, None, None, None, None] * random.uniform(-1, 1, (N, 1, GRID, GRID, GRID))
    )
    values = np.stack([level, level + 0.1 * random.normal(size=N), spread, edge**3], axis=1)
    values[::9, 2] = np.nan
    specs = (
        Target("level"),
        Target("level_too"),
        Target("spread"),
        Target("volume", unit="Å^3", transform="log10"),
    )
    ids = tuple(f"row{i:02d}" for i in range(N))
    table = TargetTable(specs, ids, values)
    systems = tuple(f"El{i}" for i in range(N))
    lattices = np.eye(3) * edge[:, None, None]
    return Dataset.from_arrays("small", ids, table, densities, lattices, systems, systems)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small dataset as a store folder."""
    path = tmp_path_factory.mktemp("data") / "small"
    write_store(path, small_dataset())
    return path


@pytest.fixture(scope="session")
def make_config(store: Path) -> Callable[..., StudyConfig]:
    """A study of the small dataset, changed as asked: ``make_config("search.n_trials=3")``."""

    def make(*overrides: str) -> StudyConfig:
        content = {
            "name": "small",
            "dataset": str(store),
            "space": SPACE,
            "split": {"by": "formula"},
            "search": {"n_trials": 7, "startup_trials": 3},
            "refit": {"top": 2, "members": 3},
            "executor": {"kind": "inline", "threads": 1},
        }
        return load_study(content, overrides)

    return make
