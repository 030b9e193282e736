"""`taskgroup affinity` and `taskgroup group`: what they print can be read by people and programs."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.cli import main
from taskgroup.datasets import load_dataset
from taskgroup.grouping import Grouping, cluster, target_graph


@pytest.fixture
def call(capsys):
    """Runs the command line; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def table(tmp_path):
    """A property table: two pairs of related columns, a class, a text, a constant; some labels missing."""
    rng = np.random.default_rng(0)
    a, c = rng.standard_normal((2, 40))
    b, d = a + 0.2 * rng.standard_normal(40), -c + 0.2 * rng.standard_normal(40)
    rows = [
        f"m{i},{a[i]},{b[i] if i % 4 else ''},{c[i]},{d[i]},{int(a[i] > 0)},x,1.5"
        for i in range(40)
    ]
    path = tmp_path / "properties.csv"
    path.write_text("id,a,b,c,d,metal,note,same\n,eV,eV,GPa,,,,\n" + "\n".join(rows) + "\n")
    return path


def test_the_crystals_are_grouped_as_in_python(call):
    code, out, _ = call("group", "crystals")
    graph = target_graph(load_dataset("crystals").targets)
    assert code == 0
    assert str(cluster(graph)) in out
    assert f"{len(graph)} targets, {graph.number_of_edges()} edges" in out


def test_json_of_a_grouping_can_be_read_back(call, table):
    code, out, _ = call("group", table, "--format", "json", "--stability", "5")
    body = json.loads(out)
    grouping = Grouping.from_json(out)
    assert code == 0
    assert str(grouping) == body["grouping"] == "{a, b, metal} | {c, d} | {same}"
    assert grouping.grouping_id == body["grouping_id"]
    assert body["stability"] == [1.0, 1.0, 1.0]
    assert body["edges"][0].keys() == {"targets", "weight", "n", "p", "q", "stability"}
    assert {tuple(edge["targets"]): edge["n"] for edge in body["edges"]}["a", "b"] == 30


def test_csv_of_a_grouping_names_groups_and_roles(call, table):
    options = ("--sparsifier", "threshold", "--method", "k_clique", "--format", "csv")
    _, out, _ = call("group", table, *options)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["target"] for row in rows} == {"a", "b", "c", "d", "metal", "same"}
    assert {row["role"] for row in rows} == {"served"}
    together = {row["target"] for row in rows if row["group"] == rows[0]["group"]}
    assert together == {"a", "b", "metal"}


def test_options_reach_the_clustering(call):
    crystals = load_dataset("crystals").targets
    _, out, _ = call(
        "group", "crystals", "--measure", "pearson", "--sparsifier", "knn", "--neighbours", "2",
        "--method", "hierarchical", "--k", "4", "--sign", "positive", "--format", "json",
    )  # fmt: skip
    expected = cluster(
        target_graph(crystals, "pearson", "knn", k=2), "hierarchical", k=4, sign="positive"
    )
    assert Grouping.from_json(out) == expected
    assert len(expected) == 4


def test_affinities_are_printed_as_matrix_csv_and_json(call, table):
    expected = affinity_matrix(load_dataset("magnets").targets, "kendall")
    _, out, _ = call("affinity", "magnets", "--measure", "kendall")
    assert all(name in out for name in expected.names)
    off = ~np.eye(len(expected.names), dtype=bool)
    assert out.count("(") == np.count_nonzero(
        expected.p[off] > 0.05
    )  # pairs that may be related by chance
    _, out, _ = call("affinity", "magnets", "--measure", "kendall", "--format", "json")
    assert np.array_equal(Affinity.from_json(out).values, expected.values)
    _, out, _ = call("affinity", table, "--format", "csv")
    rows = {(row["helper"], row["target"]): row for row in csv.DictReader(io.StringIO(out))}
    assert len(rows) == 6 * 5
    assert float(rows["a", "b"]["spearman"]) > 0.9
    assert rows["a", "same"]["spearman"] == ""


def test_many_targets_are_listed_by_strength(call, tmp_path):
    values = np.random.default_rng(0).standard_normal((30, 15))
    values[:, 1] = values[:, 0] ** 3
    names = ",".join(f"t{i}" for i in range(15))
    rows = "\n".join(f"m{i}," + ",".join(map(str, row)) for i, row in enumerate(values))
    (tmp_path / "many.csv").write_text(f"id,{names}\n{rows}\n")
    _, out, _ = call("affinity", tmp_path / "many.csv")
    assert "t0 – t1 " in out.splitlines()[1]
    assert "85 more pairs" in out


def test_pictures_are_drawn(call, table, tmp_path):
    for verb, name in (("affinity", "map.png"), ("group", "graph.svg")):
        assert call(verb, table, "--plot", tmp_path / name)[0] == 0
        assert (tmp_path / name).stat().st_size > 10_000


def test_what_was_guessed_about_a_table_goes_to_stderr(call, table):
    _, out, err = call("group", table, "--format", "json")
    json.loads(out)
    assert "'note' holds text" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("group", "crystal"), "did you mean 'crystals'"),
        (("affinity", "crystals", "--measure", "spaerman"), "did you mean 'spearman'"),
        (("group", "crystals", "--method", "luvain"), "did you mean 'louvain'"),
        (("group", "crystals", "--sparsifier", "tresh"), "did you mean 'threshold'"),
        (("group", "crystals", "--sign", "negative"), "sign rule 'negative'"),
        (("group", "crystals", "--alpha", "2"), "alpha must lie between 0 and 1"),
        (
            ("group", "crystals", "--method", "spectral", "--k", "99"),
            "k must not exceed the number of targets",
        ),
        (("group", "crystals", "--plot", "graph.doc"), "graph.doc: a picture must end in one of"),
        (
            ("affinity", "crystals", "--plot", "nowhere/map.png"),
            "the folder nowhere does not exist",
        ),
    ],
)
def test_bad_input_ends_with_one_line_and_code_two(call, arguments, told):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_it_runs_as_a_process_without_a_display(tmp_path):
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "group",
        "crystals",
        "--plot",
        str(tmp_path / "graph.png"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert "{" in done.stdout
    assert (tmp_path / "graph.png").exists()


def test_any_column_may_hold_the_ids_of_a_table(call, tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"m{i};{i % 5},5;{(i % 5) ** 2};{i % 3}" for i in range(20)]
    path.write_text("crystal;a (eV);b (g/cm3);c\n" + "\n".join(rows) + "\n")
    for verb in ("affinity", "group"):
        code, _, err = call(verb, path)
        assert code == 2
        assert "--id-column" in err
        code, out, _ = call(verb, path, "--id-column", "crystal")
        assert code == 0
        assert "a" in out
