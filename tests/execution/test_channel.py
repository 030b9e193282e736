"""Messages between real processes, and what becomes of processes that stop, hang or lose their parent."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskgroup.execution.channel import WorkerProcess, next_messages
from taskgroup.execution.testing import process_exists

FUNCTIONS = """
    import os, signal, sys, time

    def echo(channel, *arguments):
        print("printed")
        while True:
            message = channel.receive()
            channel.send("echo", message=message, arguments=arguments)

    def fail(channel):
        print("to standard output")
        raise MemoryError("no room")

    def busy(channel):
        with channel.signs_of_life():
            channel.send("ready")
            time.sleep(3600)

    def half(channel):
        channel.send("ready")
        os.write(channel.connection.fileno(), (1000).to_bytes(4, "big") + b"half a message")
        time.sleep(3600)
"""


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    (tmp_path / "functions.py").write_text(textwrap.dedent(FUNCTIONS))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    started = []

    def make(function: str, *arguments: str, **options: float) -> WorkerProcess:
        worker = WorkerProcess(
            f"functions:{function}",
            arguments,
            log=tmp_path / "log" / f"{function}.log",
            environment={"PYTHONPATH": path},
            **options,
        )
        worker.start()
        started.append(worker)
        return worker

    yield make
    for worker in started:
        worker.close()


def test_messages_go_both_ways_and_prints_go_to_the_log(make_worker, tmp_path: Path):
    worker = make_worker("echo", "first", "second")
    large = "x" * 1_000_000
    worker.send("hello", number=1.5, large=large)
    message = worker.receive()
    assert message == {
        "kind": "echo",
        "message": {"kind": "hello", "number": 1.5, "large": large},
        "arguments": ["first", "second"],
    }
    with pytest.raises(TimeoutError):
        worker.receive(time.monotonic() + 0.1)
    worker.connection.close()
    assert worker._process.wait(timeout=60) == 0
    assert (tmp_path / "log" / "echo.log").read_text() == "printed\n"


def test_an_error_is_told_by_its_last_line_and_a_signal_by_its_name(make_worker):
    failing, killed = make_worker("fail"), make_worker("busy")
    assert failing.receive() is None
    failure = failing.post_mortem()
    assert (failure.kind, failure.reason) == ("error", "MemoryError: no room")
    assert killed.receive()["kind"] == "ready"
    os.kill(killed.pid, signal.SIGTERM)
    assert killed.receive() is None
    failure = killed.post_mortem()
    assert (failure.kind, failure.reason) == ("signal", "worker ended by SIGTERM")


def test_a_worker_that_hangs_is_found_and_ended_one_that_computes_is_left_alone(make_worker):
    workers = [make_worker("busy"), make_worker("half", silence_limit=2.0), make_worker("busy")]
    computing, stopped_in_a_message, stopped = workers
    for worker in workers:
        # Libraries are loaded in this time.
        worker.silence_limit = 300.0
        assert worker.receive()["kind"] == "ready"
        worker.silence_limit = 3.0
    os.kill(stopped.pid, signal.SIGSTOP)
    found = dict(next_messages(workers))
    while len(found) < 2:
        found |= dict(next_messages([worker for worker in workers if worker not in found]))
    assert found == {stopped_in_a_message: None, stopped: None}
    pids = [stopped.pid, stopped_in_a_message.pid]
    for worker in found:
        assert worker.post_mortem().kind == "time_out"
    assert not any(map(process_exists, pids))
    with pytest.raises(TimeoutError):
        computing.receive(time.monotonic() + 5.0)
    assert computing.alive


def test_no_worker_outlives_a_parent_that_is_killed(make_worker, tmp_path: Path, wait_for):
    """One waits for a request, one computes, one is stopped."""
    make_worker("echo").close()
    code = """
        import json, os, signal, sys, time
        from pathlib import Path
        from taskgroup.execution.channel import WorkerProcess

        workers = [
            WorkerProcess(f"functions:{name}", log=Path(f"{name}-{number}.log"))
            for number, name in enumerate(["echo", "busy", "busy"])
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.send("hello")
            worker.receive()
        os.kill(workers[2].pid, signal.SIGSTOP)
        print(json.dumps([worker.pid for worker in workers]), flush=True)
        time.sleep(3600)
    """
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
    )
    pids = json.loads(parent.stdout.readline())
    assert all(map(process_exists, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not any(map(process_exists, pids)), seconds=20)
