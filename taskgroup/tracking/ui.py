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
from typing import Any

from taskgroup.errors import RunError, TaskgroupError
from taskgroup.tracking.mlflow_client import tracking_uri
from taskgroup.tracking.record import read_study

_HOST = "127.0.0.1"
_PATIENCE = 90.0  # seconds a server may take to answer


def serve(run_dir: str | Path, port: int, say: Callable[[str], Any]) -> None:
    """Serve MLflow on ``port`` and the Optuna dashboard on the next one until KeyboardInterrupt (or SIGTERM).

    ``say`` is given a line a server. Raises RunError where a port is taken, TaskgroupError where a server fails.
    """
    commands = server_commands(Path(run_dir), port)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        servers = {}
        for offset, (name, command) in enumerate(commands.items()):
            if isinstance(command, str):
                say(f"{name}: {command}")
                continue
            servers[name] = stack.enter_context(_running(name, command, port + offset))
            say(f"{name}: http://{_HOST}:{port + offset}")
        say("Ctrl-C stops.")
        with contextlib.suppress(KeyboardInterrupt):
            while all(server.poll() is None for server in servers.values()):
                time.sleep(0.5)


def server_commands(run_dir: Path, port: int) -> dict[str, list[str] | str]:
    """A command line a server; or, where none is to be started, what to tell instead."""
    study = read_study(run_dir)
    uri = tracking_uri(run_dir)
    storage = study.config.get("storage") or f"sqlite:///{run_dir.resolve() / 'optuna.db'}"
    dashboard = shutil.which(
        "optuna-dashboard", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    place = ["--host", _HOST, "--port"]
    mlflow = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        *place,
        str(port),
        "--workers",
        "1",
    ]
    optuna = [dashboard or "", storage.removeprefix("journal:"), *place, str(port + 1)]
    return {
        "MLflow": uri if uri.startswith("http") else mlflow,
        "Optuna": optuna
        if dashboard
        else "the dashboard is not installed: pip install 'taskgroup[ui]'",
    }


@contextlib.contextmanager
def _running(name: str, command: list[str], port: int) -> Iterator[subprocess.Popen]:
    """A server that answers on its port; its whole process group is ended on leaving."""
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
            deadline = time.monotonic() + _PATIENCE
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines() or [
                        "it said nothing"
                    ]
                    raise TaskgroupError(f"{name} did not start: {lines[-1]}")
                time.sleep(0.2)
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_HOST, port)) == 0


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
