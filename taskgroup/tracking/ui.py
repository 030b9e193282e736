"""The user interfaces of MLflow and Optuna on one run, reachable from this machine only."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from taskgroup.errors import RunError, TaskgroupError
from taskgroup.files import read_json
from taskgroup.tracking.mlflow_client import MEMORY_FILE, connect, is_server, tracking_uri
from taskgroup.tracking.mlflow_view import table_page, write_view
from taskgroup.tracking.moved import follow_move
from taskgroup.tracking.run_folder import read_final, read_study
from taskgroup.urls import redact, resolve, sqlite_url

_HOST = "127.0.0.1"

# Seconds a server may take to answer; MLflow takes half a minute on a loaded machine.
_PATIENCE = 90.0

# Seconds between two looks whether a server answers, or still runs.
_LOOK_EVERY = 0.2
_WATCH_EVERY = 0.5

# Seconds a server gets to end by itself before it is killed.
_END_PATIENCE = 5


def serve(
    run_dir: str | Path,
    port: int,
    say: Callable[[str], Any],
    open_page: Callable[[str], Any] = lambda address: None,
) -> None:
    """Serve MLflow on ``port`` and the Optuna dashboard on the next one until KeyboardInterrupt (or SIGTERM).

    ``say`` is given one line per server, ``open_page`` the address of MLflow's table of runs, once it answers.
    Raises RunError: a port is taken; TaskgroupError: a server fails.
    """
    follow_move(run_dir)
    _refresh_view(Path(run_dir))
    commands = server_commands(Path(run_dir), port)
    pages = start_pages(Path(run_dir))
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        servers = []
        for offset, (name, command) in enumerate(commands.items()):
            if isinstance(command, str):
                say(f"{name}: {command}")
                continue
            servers.append(stack.enter_context(_running(name, command, port + offset)))
            address = f"http://{_HOST}:{port + offset}{pages.get(name, '')}"
            say(f"{name}: {address}")
            if offset == 0:
                open_page(address)
        say("Ctrl-C stops.")
        with contextlib.suppress(KeyboardInterrupt):
            while all(server.poll() is None for server in servers):
                time.sleep(_WATCH_EVERY)


def server_commands(run_dir: Path, port: int) -> dict[str, list[str] | str]:
    """Return one command line per server; or, where none is to be started, what to tell instead."""
    uri = tracking_uri(run_dir)
    mlflow: list[str] | str = f"{redact(uri)}{start_pages(run_dir).get('MLflow', '')}"
    if not is_server(uri):
        options = ["--backend-store-uri", uri, *_address(port), "--workers", "1"]
        mlflow = [sys.executable, "-m", "mlflow", "ui", *options]
    dashboard = _dashboard_program()
    optuna: list[str] | str = (
        "the dashboard is not installed: pip install 'taskgroup-materials[ui]'"
    )
    if dashboard is not None:
        optuna = [dashboard, _optuna_storage(run_dir), *_address(port + 1)]
    return {"MLflow": mlflow, "Optuna": optuna}


def start_pages(run_dir: Path) -> dict[str, str]:
    """Return the page to open first by server: MLflow's table of this study's runs, the choice on top.

    MLflow's own start page leads to an empty list of traces.
    """
    path = run_dir / MEMORY_FILE
    if not path.exists():
        return {}
    memory = read_json(path)
    return {"MLflow": table_page(memory["experiment_id"], memory["run_id"])}


def _refresh_view(run_dir: Path) -> None:
    """Write the view that the start page names: runs of older versions have none."""
    path = run_dir / MEMORY_FILE
    uri = tracking_uri(run_dir)
    if is_server(uri) or not path.exists():
        return
    memory = read_json(path)
    is_finished = read_final(run_dir) is not None
    write_view(connect(uri), memory["experiment_id"], memory["run_id"], is_finished)


def _address(port: int) -> list[str]:
    return ["--host", _HOST, "--port", str(port)]


def _dashboard_program() -> str | None:
    """Return the path of the Optuna dashboard: of this Python environment before any other."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return shutil.which("optuna-dashboard", path=os.pathsep.join(folders))


def _optuna_storage(run_dir: Path) -> str:
    storage = read_study(run_dir).config.get("storage")
    if not storage:
        return sqlite_url(run_dir.resolve() / "optuna.db")
    # The dashboard takes the file of a journal by its path.
    return resolve("storage", storage).removeprefix("journal:")


@contextlib.contextmanager
def _running(name: str, command: list[str], port: int) -> Iterator[subprocess.Popen]:
    """Start a server and wait until it answers; its whole process group is ended on leaving."""
    if _answers(port):
        raise RunError(
            f"port {port}: must be free for {name}, but something answers there; choose another with --port"
        )
    with tempfile.TemporaryFile() as log:
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=environment
        )
        try:
            _wait_until_it_answers(name, process, port, log)
            yield process
        finally:
            _end(process)


def _wait_until_it_answers(name: str, process: subprocess.Popen, port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "it said nothing"
            raise TaskgroupError(f"{name} did not start: {redact(reason)}")
        time.sleep(_LOOK_EVERY)


def _end(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_PATIENCE)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_HOST, port)) == 0


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
