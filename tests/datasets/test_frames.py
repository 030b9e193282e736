"""Data frames in and out: wherever a property table or a target table goes in."""

import shutil

import numpy as np
import pandas as pd
import pytest

import taskgroup as tg
from taskgroup.affinity import affinity_matrix
from taskgroup.datasets import TargetTable, read_properties
from taskgroup.datasets.crystals import data_folder
from taskgroup.errors import TargetError


def test_a_frame_of_a_target_table_gives_the_table_back():
    table = tg.load_dataset("magnets").targets
    again = TargetTable.from_frame(table.frame())
    assert again.specs == table.specs
    assert again.ids == table.ids
    np.testing.assert_array_equal(again.values, table.values)


def test_some_columns_of_such_a_frame_keep_their_meaning_beside_columns_of_text():
    data = tg.load_dataset("crystals")
    frame = data.frame()[["formula", "is_metal", "bulk_modulus"]]
    table = TargetTable.from_frame(frame)
    assert table.specs == data.targets.select(["is_metal", "bulk_modulus"]).specs


def test_units_stand_in_the_names_of_columns_and_the_index_holds_ids():
    frame = pd.DataFrame({"bulk modulus (GPa)": [98.8, None], "metal": [False, True]}, ["Si", "Cu"])
    table = TargetTable.from_frame(frame)
    assert table.ids == ("Si", "Cu")
    assert [(spec.name, spec.unit, spec.kind) for spec in table.specs] == [
        ("bulk_modulus", "GPa", "regression"),
        ("metal", "", "classification"),
    ]
    assert np.isnan(table.column("bulk_modulus")[1])


@pytest.mark.parametrize(
    ("frame", "ids"),
    [
        (pd.DataFrame({"material_id": ["a", "b"], "gap": [1.5, 2.5]}), ("a", "b")),
        # A formula that stands there twice names no row.
        (pd.DataFrame({"formula": ["NaCl", "NaCl"], "gap": [1.5, 2.5]}), ("0", "1")),
        (pd.DataFrame({"gap": [1.5, 2.5]}), ("0", "1")),
        (pd.DataFrame({"gap": [1.5, 2.5]}, index=pd.Index([7, 9], name="number")), ("7", "9")),
    ],
)
def test_ids_are_the_index_or_a_usual_column_or_row_numbers(frame, ids):
    assert TargetTable.from_frame(frame).ids == ids


def test_what_is_asked_for_of_a_frame_follows_the_rules_of_files():
    frame = pd.DataFrame({"gap (meV)": [1500.0, 2500.0], "other": [1.0, 2.0], "key": ["a", "b"]})
    asked = {"gap": {"unit": "eV", "transform": "log10"}}
    table = TargetTable.from_frame(frame, asked, id_column="key")
    assert table.names == ("gap",)
    np.testing.assert_allclose(table.column("gap"), [1.5, 2.5])
    with pytest.raises(TargetError, match="data frame: no column for target 'gab'"):
        TargetTable.from_frame(frame, ["gab"])


def test_affinity_and_target_graph_take_frames():
    data = tg.load_dataset("crystals")
    of_table = affinity_matrix(data.targets)
    of_frame = affinity_matrix(data.targets.frame())
    np.testing.assert_array_equal(of_frame.values, of_table.values)
    graph = tg.target_graph(data.targets.frame())
    assert dict(graph.edges) == dict(tg.target_graph(data.targets).edges)
    with pytest.raises(TargetError, match="DataFrame, found list"):
        tg.target_graph([[1.0, 2.0]])


def test_a_frame_and_a_file_are_joined_by_id(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("id,gap\nSi,1.1\nCu,0\n")
    frame = pd.DataFrame({"volume": [20.0, 11.0]}, index=["Si", "Cu"])
    table = read_properties([frame, path]).table
    assert table.names == ("volume", "gap")
    assert table.ids == ("Si", "Cu")


def test_ingest_takes_a_frame(tmp_path):
    targets = tg.load_dataset("crystals").targets
    files = sorted(data_folder().joinpath("chgcar").iterdir())[:2]
    (tmp_path / "calcs").mkdir()
    for file in files:
        shutil.copy(str(file), tmp_path / "calcs")
    frame = targets.select(["bulk_modulus", "volume"]).frame()
    report = tg.ingest(tmp_path / "calcs", frame, tmp_path / "store", grid=8)
    assert report.n_rows == 2
    store = tg.load_dataset(tmp_path / "store")
    assert store.targets.specs == targets.select(["bulk_modulus", "volume"]).specs


def test_an_affinity_comes_out_as_a_matrix_and_as_pairs():
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [1.0, 2, 3, 5], "c": [1.0, 3, 2, 9]})
    affinity = affinity_matrix(frame, "pearson")
    pairs = affinity.pairs().set_index(["helper", "target"])
    assert len(pairs) == 6
    assert pairs.loc[("a", "b"), "pearson"] == affinity.frame().loc["a", "b"]
    assert pairs.loc[("a", "b"), "n"] == 4


def test_the_summary_of_a_table_counts_labels():
    summary = tg.load_dataset("crystals").targets.summary()
    assert summary.loc["volume", "unit"] == "Å^3"
    assert summary.loc["volume", "labels"] > 600
    assert summary.loc["volume", "min"] < summary.loc["volume", "median"]
