"""Readers of set results: our CSV and the published formats, written here in small and read where they lie."""

import json
from pathlib import Path

import pytest

from taskgroup.errors import GroupingError
from taskgroup.grouping import Candidate, read_table, solve

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/data/grouping_tables"


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_rows_become_candidates_in_file_order(tmp_path):
    path = written(
        tmp_path, "tasks,cost,gap,volume\ngap,0.5,0.3,\nvolume gap,,0.25,0.5\n\nvolume,2,,0.75\n"
    )
    table = read_table(path)
    assert table.candidates == (
        Candidate(("gap",), {"gap": 0.3}, 0.5),
        Candidate(("gap", "volume"), {"gap": 0.25, "volume": 0.5}, 1.0),
        Candidate(("volume",), {"volume": 0.75}, 2.0),
    )
    assert not table.higher_is_better


def test_csv_cost_column_may_be_absent_and_columns_stand_in_any_order(tmp_path):
    table = read_table(written(tmp_path, "\ufeffb,tasks,a\n2,a b,1\n"))
    assert table.candidates == (Candidate(("a", "b"), {"a": 1, "b": 2}),)


def test_repeated_sets_of_equal_cost_get_keys(tmp_path):
    table = read_table(
        written(tmp_path, "tasks,cost,a,b\na b,1,1,2\nb a,1,3,4\na b,2,5,6\na b,1,7,8\n")
    )
    assert [c.key for c in table.candidates] == ["", "#2", "", "#3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a header line, found an empty file"),
        ("tasks,a\n", "must hold at least one set, found only the header"),
        ("set,a\na,1\n", "the header must name 'tasks' and a column per task .* found: set, a"),
        ("tasks,a,a\na,1,2\n", "column names must be single words, each once, found 'a' 2 times"),
        ("tasks,a\na b,1\n", "line 2: tasks names 'b', which is no column, choose from: a"),
        (
            "tasks,band_gap\nbandgap,1\n",
            "line 2: tasks names 'bandgap', .* did you mean 'band_gap'",
        ),
        ("tasks,a,b\na,1,\n", "every task column must be in at least one set, but 'b' is in none"),
        ("tasks,a,b\na b,1,\n", "line 2: .* found a blank inside the set for 'b'"),
        ("tasks,a,b\na,1,2\nb,,1\n", "line 2: .* found a value outside the set for 'b'"),
        ("tasks,a\na a,1\n", "line 2: tasks must name a task once, found 'a' 2 times"),
        ("tasks,a\n ,1\n", "line 2: tasks must name at least one task, found none"),
        ("tasks,a\na,nan\n", "line 2: the value of 'a' must be a finite number, found 'nan'"),
        ("tasks,a\na,low\n", "line 2: the value of 'a' must be a finite number, found 'low'"),
        ("tasks,cost,a\na,-1,1\n", r"line 2: .*cost must be a number >= 0, found -1"),
        ("tasks,cost,a\na,nan,1\n", "line 2: cost must be a finite number, found 'nan'"),
        ("tasks,a\na,1,2\n", "line 2: 2 cells are needed as in the header, found 3"),
    ],
)
def test_bad_csv_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(GroupingError, match=r"table\.csv.*" + message):
        read_table(written(tmp_path, text))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(GroupingError, match=r"none\.csv: .*No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(GroupingError, match=r"binary\.csv: .*not UTF-8"):
        read_table(tmp_path / "binary.csv")
    with pytest.raises(
        GroupingError, match="unknown table format 'standly', did you mean 'standley'"
    ):
        read_table(tmp_path / "none.csv", "standly")


def test_standley_lines_are_half_cost_singles_then_full_networks(tmp_path):
    table = read_table(written(tmp_path, ".1\t.2\n.15\t\n.12\t.18", "results.txt"), "standley")
    assert table.candidates == (
        Candidate(("a",), {"a": 0.1}, 0.5),
        Candidate(("b",), {"b": 0.2}, 0.5),
        Candidate(("a",), {"a": 0.15}),
        Candidate(("a", "b"), {"a": 0.12, "b": 0.18}),
    )
    with pytest.raises(GroupingError, match=r"line 2: 2 .* columns are needed, found 3"):
        read_table(written(tmp_path, ".1\t.2\n.1\t\t\n", "bad.txt"), "standley")


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the published tables are not at {PUBLISHED}")
@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.glob("standley/results*.txt")), ids=lambda path: path.name
)
def test_published_standley_tables_hold_every_set_and_the_half_cost_singles(path):
    candidates = read_table(path, "standley").candidates
    assert len({c.tasks for c in candidates if c.cost == 1}) == 31
    assert sorted(c.tasks for c in candidates if c.cost == 0.5) == [(t,) for t in "abcde"]


def tag_file(tmp_path, comment, table):
    return written(tmp_path, json.dumps({"comment": comment, "table": table}), "tag.json")


def test_tag_scores_are_means_over_the_other_tasks_of_the_affected_row(tmp_path):
    table = {
        "a": {"a": 9, "b": 1, "c": 3},
        "b": {"a": 5, "b": 9, "c": 7},
        "c": {"a": 0, "b": 2, "c": 9},
    }
    read = read_table(tag_file(tmp_path, "# TAG", table), "tag")
    found = {"".join(c.tasks): c.scores for c in read.candidates}
    assert found == {
        "ab": {"a": 1, "b": 5}, "ac": {"a": 3, "c": 0}, "bc": {"b": 7, "c": 2}, "abc": {"a": 2, "b": 6, "c": 1},
    }  # fmt: skip
    assert read.higher_is_better
    assert read.weights == pytest.approx(dict.fromkeys("abc", 1 / 3))
    alone = read_table(tag_file(tmp_path, "# HOA pairs", table), "tag")
    assert {"".join(c.tasks): c.scores for c in alone.candidates}["b"] == {"b": 9}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": {"a": 1, "b": 2}}, "row 'a' must name every task once, found: a, b"),
        (
            {"a": {"a": 1, "b": None}, "b": {"a": 1, "b": 2}},
            "row 'a': 'b' must be a finite number, found 'None'",
        ),
        ({"a": {"a": 1}}, "an affinity table must hold at least two tasks, found 1"),
        ([1], 'a TAG table must be JSON like {"comment"'),
    ],
)
def test_bad_tag_tables_are_named(tmp_path, table, message):
    with pytest.raises(GroupingError, match=message):
        read_table(tag_file(tmp_path, "", table), "tag")


def test_mtgnet_gains_are_read_with_the_memberships_beside_them(tmp_path):
    written(tmp_path, "1 0 0\n0 1 0\n0 0 1\n1 1 0\n1 1 1\n", "care_x.csv")
    gains = written(tmp_path, "0 0 0\n0 0 0\n0 0 0\n.2 -.1 0\n-.3 .4 .5\n", "care_y_valid.csv")
    read = read_table(gains, "mtgnet")
    assert read.higher_is_better
    assert read.candidates[3:] == (
        Candidate(("task1", "task2"), {"task1": 0.2, "task2": -0.1}),
        Candidate(("task1", "task2", "task3"), {"task1": -0.3, "task2": 0.4, "task3": 0.5}),
    )
    solution = solve(read.candidates, higher_is_better=True, groups=2)
    assert solution.per_task == {"task1": 0.2, "task2": 0.4, "task3": 0.5}


def test_mtgnet_accepts_commas_and_names_what_is_missing(tmp_path):
    gains = written(tmp_path, "0,0\n0,0\n0.1,0.2\n", "vision.csv")
    with pytest.raises(
        GroupingError,
        match=r"give the gains file, with its memberships NAME_x\.csv beside it, found none",
    ):
        read_table(gains, "mtgnet")
    member = written(tmp_path, "1,0\n0,1\n1,1\n", "vision_x.csv")
    assert len(read_table(gains, "mtgnet").candidates) == 3
    with pytest.raises(GroupingError, match="found the memberships themselves"):
        read_table(member, "mtgnet")
    written(tmp_path, "1,0\n0,1\n", "vision_x.csv")
    with pytest.raises(GroupingError, match=r"rows and columns must match those of vision_x\.csv"):
        read_table(gains, "mtgnet")
