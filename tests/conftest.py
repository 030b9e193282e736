"""Settings of every test, and a small dataset that trains in a blink with studies on it."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
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
        # Studies of tests log to their own folders, wherever the developer's log to.
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
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


class PostgresServer:
    """A PostgreSQL server of its own, in a folder of its own, reached by a Unix socket in it."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        self.owner = user or pwd.getpwuid(os.getuid()).pw_name
        self._call("initdb", "--auth=trust", "--no-sync", "-D", folder / "data")
        self.start()
        self._call("createdb", "-h", folder, "optuna")

    def url(self, database: str = "optuna") -> str:
        return f"postgresql://{self.owner}@/{database}?host={self._folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}' -c fsync=off"
        log = self._folder / "log"
        data = self._folder / "data"
        self._call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """End the server at once, and all connections with it, as a crash does."""
        self._call("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def _call(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        # Its standard output may stay open as long as the server runs: it is not read.
        log = self._folder / "calls"
        with log.open("ab") as output:
            subprocess.run(
                command, check=True, user=self._user, stdout=output, stderr=output, cwd="/"
            )


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[PostgresServer]:
    if shutil.which("pg_config") is None:
        pytest.skip("PostgreSQL is not installed: no pg_config")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'taskgroup-materials[postgresql]'")
    found = subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True, text=True)
    programs = Path(found.stdout.strip())
    if not (programs / "initdb").exists():
        pytest.skip(f"PostgreSQL's server is not installed: no initdb in {programs}")
    # PostgreSQL refuses to run as root, and a socket's path may have 107 characters: a short folder of another user.
    user = "nobody" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)
    server = PostgresServer(programs, folder, user)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def postgres(_postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A running PostgreSQL server; a test may stop and start it."""
    yield _postgres_server
    running = _postgres_server._folder / "data" / "postmaster.pid"
    if not running.exists():
        _postgres_server.start()
