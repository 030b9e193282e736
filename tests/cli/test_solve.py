"""`taskgroup solve` as a process of its own and through its printed JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from taskgroup.cli import main

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/data/grouping_tables"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published tables are not at {PUBLISHED}"
)

TABLE = "tasks,cost,gap,volume\ngap,1,0.3,\nvolume,1,,0.5\ngap volume,1.5,0.2,0.6\n"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return str(path)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["solve", *arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_json_has_the_documented_shape_and_nothing_else(table, tmp_path, capsys):
    other = tmp_path / "test.csv"
    other.write_text(TABLE.replace("0.6", "0.7").replace("0.5", "0.4"))
    code, out, err = run(
        capsys, table, "--budget", "2.5", "--evaluate", str(other), "--format", "json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "groups": [
            {"tasks": ["gap", "volume"], "serves": ["gap"], "cost": 1.5},
            {"tasks": ["volume"], "serves": ["volume"], "cost": 1.0},
        ],
        "total": 0.7,
        "per_task": {"gap": 0.2, "volume": 0.5},
        "cost": 2.5,
        "gap": 0.0,
        "evaluated": {"total": pytest.approx(0.6), "per_task": {"gap": 0.2, "volume": 0.4}},
    }


def test_json_tells_repeated_sets_apart_by_their_number(tmp_path, capsys):
    path = tmp_path / "repeated.csv"
    path.write_text("tasks,gap\ngap,0.3\ngap,0.1\n")
    _, out, _ = run(capsys, str(path), "--format", "json")
    assert json.loads(out)["groups"] == [
        {"tasks": ["gap"], "serves": ["gap"], "cost": 1.0, "key": "#2"}
    ]


def test_the_front_is_a_list_of_that_shape_cheapest_first(table, capsys):
    _, out, _ = run(capsys, table, "--pareto", "--format", "json")
    assert [(point["cost"], round(point["total"], 9)) for point in json.loads(out)] == [
        (1.5, 0.8),
        (2.5, 0.7),
    ]


def test_modnet_gets_nested_lists(table, capsys):
    _, out, _ = run(capsys, table, "--groups", "1", "--format", "modnet")
    assert json.loads(out) == [[["gap"], ["volume"]]]


def test_the_table_for_people_names_networks_helpers_and_proof(table, capsys):
    _, out, _ = run(capsys, table)
    for text in ("gap volume", "helpers", "total", "0.7", "cost 2.5, proven best"):
        assert text in out
    _, out, _ = run(capsys, table, "--pareto", "--evaluate", table)
    assert "{gap + volume} | {volume}" in out


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["--disjoint"], [["gap", "volume"]]),  # 0.8 as the two alone, and cheaper
        (["--higher-is-better", "--groups", "1"], [["gap", "volume"]]),
        (["--max-group-size", "1"], [["gap"], ["volume"]]),
        (["--together", "gap,volume"], [["gap", "volume"]]),
        (["--apart", "volume,gap"], [["gap"], ["volume"]]),
        (["--weights", "gap=0,volume=1", "--groups", "1"], [["gap", "volume"]]),
        (["--normalise", "--disjoint"], [["gap", "volume"]]),
    ],
)
def test_options_reach_the_solver(table, options, chosen, capsys):
    _, out, _ = run(capsys, table, "--format", "json", *options)
    assert [group["tasks"] for group in json.loads(out)["groups"]] == chosen


@needs_published
def test_published_tables_are_solved_from_their_own_formats(capsys):
    results = str(PUBLISHED / "standley/results.txt")
    _, out, _ = run(
        capsys, results, "--from", "standley", "--budget", "3",
        "--evaluate", results.replace(".txt", "_test.txt"), "--format", "json",
    )  # fmt: skip
    assert json.loads(out)["evaluated"]["total"] == pytest.approx(0.44235, abs=5e-6)
    _, out, _ = run(
        capsys,
        str(PUBLISHED / "tag/celeba9_TAG.json"),
        "--from",
        "tag",
        "--groups",
        "2",
        "--format",
        "json",
    )
    assert json.loads(out)["total"] == pytest.approx(-99.441819, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--budget", "0.5"],
            "Error: budget=0.5: the cheapest choice that serves every task costs 1.5",
        ),
        (
            ["--together", "gap,volumes"],
            "Error: together: no set holds a task 'volumes', did you mean 'volume'",
        ),
        (["--weights", "gap"], "Error: weights must look like a=2,b=0.5, found 'gap'"),
        (["--groups", "0"], "Error: groups must be at least 1, found 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(table, options, message, capsys):
    code, out, err = run(capsys, table, *options)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_the_installed_command_answers(table):
    done = subprocess.run(
        [sys.executable, "-m", "taskgroup", "solve", table, "--groups", "1", "--format", "json"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout)["groups"][0]["tasks"] == ["gap", "volume"]
