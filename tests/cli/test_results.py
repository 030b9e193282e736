"""The verbs leaderboard, report and ui, as a user runs them."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskgroup.cli import main
from taskgroup.grouping import Grouping
from taskgroup.tracking import (
    StudyRecord,
    TrialRecord,
    append_record,
    leaderboard,
    read_records,
    write_study,
)

TARGETS = ("band_gap", "density")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    targets = {name: {"kind": "regression", "unit": "", "transform": "none"} for name in TARGETS}
    write_study(folder, StudyRecord("demo", {}, {"name": "toy", "hash": "0"}, "s", targets, {}))
    for number, value in enumerate((0.2, 0.6, 0.4)):
        skills = {"band_gap": value, "density": 1 - value}
        record = TrialRecord(
            number, "trial" if number else "baseline", f"t{number}", Grouping.singles(TARGETS), value, skills, {}, {},
            "COMPLETE", None, None, (), 0, 1.0,
        )  # fmt: skip
        append_record(folder, record)
    return folder


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_leaderboard_prints_pure_json_of_the_rows(run, capsys) -> None:
    code, out, _ = call(capsys, "leaderboard", run, "--format", "json")
    assert code == 0
    assert json.loads(out) == leaderboard(read_records(run))


def test_a_run_is_found_by_the_name_of_its_study(run, capsys) -> None:
    assert (
        call(capsys, "leaderboard", "demo", "--format", "json")[1]
        == call(capsys, "leaderboard", run, "--format", "json")[1]
    )


def test_leaderboard_as_csv_sorts_by_a_target_and_cuts(run, capsys) -> None:
    _, out, _ = call(
        capsys, "leaderboard", run, "--format", "csv", "--sort", "density", "--top", "2"
    )
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == ["t0", "t2"]
    assert [float(row["skill/density"]) for row in rows] == [0.8, 0.6]


def test_leaderboard_as_table_and_html_show_every_trial(run, capsys) -> None:
    for form in ("table", "html"):
        code, out, _ = call(capsys, "leaderboard", run, "--format", form)
        assert code == 0
        assert all(name in out for name in ("t0", "t1", "t2"))


def test_report_writes_into_the_run_folder_unless_told_where(run, capsys, tmp_path) -> None:
    _, out, _ = call(capsys, "report", run)
    assert Path(out.strip()) == run / "report.html"
    _, out, _ = call(capsys, "report", run, "--out", tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["leaderboard", "dmeo"], "did you mean 'demo'"), (["report", "dmeo"], "did you mean 'demo'"),
     (["ui", "dmeo"], "did you mean 'demo'"), (["leaderboard", "demo", "--sort", "densty"], "did you mean 'density'")],
)  # fmt: skip
def test_bad_input_is_one_line_and_code_2(run, capsys, arguments, words) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_leaderboard_answers_without_the_heavy_packages(run) -> None:
    code = (
        "import sys, taskgroup.cli\n"
        "try:\n    taskgroup.cli.main(['leaderboard', 'demo', '--format', 'json'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'mlflow', 'torch', 'optuna', 'matplotlib', 'pymatgen'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_ui_refuses_a_port_in_use(run, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call(capsys, "ui", run, "--port", taken.getsockname()[1])
    assert code == 2
    assert "must be free for MLflow" in err


def test_ui_serves_on_loopback_only_and_stops_all_it_started_on_interrupt(
    run, capsys, monkeypatch
) -> None:
    from taskgroup.tracking import ui

    port = free_port()
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
    monkeypatch.setattr(
        ui, "server_commands", lambda *_: {"A": [*server, str(port)], "B": "http://elsewhere"}
    )
    lines = []
    opened = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGTERM)
    try:
        ui.serve(run, port, say, opened.append)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert lines == [f"A: http://127.0.0.1:{port}", "B: http://elsewhere", "Ctrl-C stops."]
    assert opened == [f"http://127.0.0.1:{port}"]
    time.sleep(0.1)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_first_page_is_the_view_of_the_study(run) -> None:
    from taskgroup.tracking.mlflow_client import MEMORY_FILE
    from taskgroup.tracking.ui import start_pages

    assert start_pages(run) == {}
    memory = {"uri": None, "experiment_id": "3", "run_id": "abc"}
    (run / MEMORY_FILE).write_text(json.dumps(memory))
    assert start_pages(run)["MLflow"].startswith("/#/experiments/3/runs?viewStateShareKey=abc")


def test_the_servers_listen_on_loopback(run) -> None:
    from taskgroup.tracking.ui import server_commands

    for command in server_commands(run, 5000).values():
        if isinstance(command, list):
            assert command[command.index("--host") + 1] == "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
