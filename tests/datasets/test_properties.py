import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taskgroup.datasets import Properties, read_properties
from taskgroup.errors import TargetError

CSV = """id,formula,bulk_modulus,gap,is_metal
,,GPa,eV,
Si-diamond,Si,88.5,0.61,0
Al-fcc,Al,77.1,,1
NaCl-rocksalt,NaCl,nan,5.0,0
"""


def read(folder: Path, text: str, name: str = "table.csv", **options) -> Properties:
    (folder / name).write_text(text)
    return read_properties(folder / name, **options)


def test_a_csv_with_a_row_of_units_becomes_targets(tmp_path: Path) -> None:
    found = read(tmp_path, CSV)
    assert found.table.ids == ("Si-diamond", "Al-fcc", "NaCl-rocksalt")
    assert {s.name: (s.kind, s.unit) for s in found.table.specs} == {
        "bulk_modulus": ("regression", "GPa"),
        "gap": ("regression", "eV"),
        "is_metal": ("classification", ""),
    }
    np.testing.assert_array_equal(
        found.table.values, [[88.5, 0.61, 0], [77.1, np.nan, 1], [np.nan, 5, 0]], strict=True
    )
    assert any("'formula' holds text" in note for note in found.notes)
    assert any("'is_metal' holds 0 and 1" in note for note in found.notes)


def test_the_same_table_reads_the_same_from_csv_parquet_json_and_tsv(tmp_path: Path) -> None:
    records = [{"id": "a", "x": 1 / 3, "metal": True}, {"id": "b", "x": None, "metal": False}]
    pd.DataFrame(records).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps(records))
    pd.DataFrame(records).to_csv(tmp_path / "t.csv.gz", index=False)
    pd.DataFrame(records).to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    for name in ("t.parquet", "t.json", "t.csv.gz", "t.tsv"):
        table = read_properties(tmp_path / name).table
        assert table.ids == ("a", "b")
        assert [spec.kind for spec in table.specs] == ["regression", "classification"]
        np.testing.assert_array_equal(table.values, [[1 / 3, 1], [np.nan, 0]])


@pytest.mark.parametrize("first", ["", "unit", "units", "[unit]"])
def test_the_row_of_units_is_known_by_its_first_cell(tmp_path: Path, first: str) -> None:
    assert read(tmp_path, f"id,x\n{first},g/cm^3\na,1\nb,2\n").table.spec("x").unit == "g/cm^3"


def test_units_in_the_header_are_read_and_spaces_in_names_become_underscores(
    tmp_path: Path,
) -> None:
    text = (
        "id,Bulk modulus (GPa),energy [eV/atom],gap(eV),zT (uW/(cm K^2 s))\na,1,2,3,4\nb,5,6,7,8\n"
    )
    table = read(tmp_path, text).table
    assert {spec.name: spec.unit for spec in table.specs} == {
        "Bulk_modulus": "GPa", "energy": "eV/atom", "gap": "eV", "zT": "uW/(cm K^2 s)",
    }  # fmt: skip
    np.testing.assert_array_equal(table.column("gap"), [3, 7])
    assert read(tmp_path, text, targets=["gap", "zT"]).table.names == ("gap", "zT")
    assert read(tmp_path, "crystal (id),x y\na,1\nb,2\n", id_column="crystal (id)").table.names == (
        "x_y",
    )


def test_brackets_in_a_header_that_hold_no_unit_are_part_of_the_name_which_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(TargetError, match=r"log10\(K_VRH\).*a name is made of"):
        read(tmp_path, "id,log10(K_VRH)\na,1\nb,2\n")
    with pytest.raises(TargetError, match="column 'x' stands there twice"):
        read(tmp_path, "id,x (eV),x [GPa]\na,1,2\nb,3,4\n")


def test_a_targets_file_chooses_columns_and_says_what_they_mean(tmp_path: Path) -> None:
    said = tmp_path / "targets.yaml"
    said.write_text("gap: {unit: eV, transform: signed_log}\nbulk_modulus:\n")
    found = read(tmp_path, CSV, targets=said)
    assert found.table.names == ("gap", "bulk_modulus")
    assert found.table.spec("gap").transform == "signed_log"
    assert found.table.spec("bulk_modulus").unit == "GPa"
    assert found.notes == ()


def test_columns_can_be_chosen_by_name_and_the_id_column_too(tmp_path: Path) -> None:
    assert read(tmp_path, CSV, targets=["gap"]).table.names == ("gap",)
    table = read(tmp_path, "crystal,x\nA,1\nB,2\n", id_column="crystal").table
    assert table.ids == ("A", "B")


def test_a_column_of_0_and_1_stays_a_number_where_that_was_said(tmp_path: Path) -> None:
    found = read(tmp_path, CSV, targets={"is_metal": {"kind": "regression"}})
    assert found.table.spec("is_metal").kind == "regression"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("crystal,x\nA,1\n", {}, "no id column.*found crystal, x"),
        ("id,x\nA,1\n", {"id_column": "idd"}, "no id column 'idd'; did you mean 'id'"),
        ("id,x\nA,1\nB,2\nA,3\n", {}, "id 'A' stands there twice"),
        ("id,x\nA,1\nB,about 2\nC,3\n", {}, "'x', row 'B': needs a number, got 'about 2'"),
        ("id,x\nA,1\nB,2_0\n", {}, "'x', row 'B': needs a number, got '2_0'"),
        ("id,x\nA,1\nB,inf\n", {}, "'x', row 'B': values are finite"),
        ("id,x\n,GPaa\nA,1\n", {}, "'x': unit 'GPaa' does not parse"),
        ("id,bulk:modulus\nA,1\nB,2\n", {}, "'bulk:modulus': a name is made of"),
        ("id,x,x\nA,1,2\n", {}, "column 'x' stands there twice"),
        ("id,x\nA,1\nB,2\n", {"targets": ["y"]}, "no column for target 'y'"),
        (
            "id,x\nA,1\nB,2\n",
            {"targets": {"x": {"units": "eV"}}},
            "unknown field 'units'; did you mean 'unit'",
        ),
        ("id,x\nA,1\nB,2\n", {"targets": {"x": "eV"}}, "target 'x' must be a mapping"),
        (
            "id,x\n,eV\nA,1\n",
            {"targets": {"x": {"unit": "GPa"}}},
            "says unit 'eV', the targets file 'GPa'",
        ),
        (
            "id,x\nA,1\nB,0\n",
            {"targets": {"x": {"transform": "log10"}}},
            "'x', row 'B': log10 needs values > 0",
        ),
        (
            "id,x\nA,1\nB,2\n",
            {"targets": {"x": {"kind": "classification"}}},
            "'x', row 'B': classes are",
        ),
        ("id,x\nA,red\nB,blue\n", {}, "no column holds a target"),
        ("id,x\nA,red\nB,blue\n", {"targets": ["x"]}, "needs a number, got 'red'"),
        ("", {}, "cannot be read as a property table"),
        ("id,x\nA,1\nB,2,3,4\n", {}, "cannot be read as a property table"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_in_one_line_naming_the_file(
    tmp_path: Path, text: str, options: dict, said: str
) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        read(tmp_path, text, **options)
    assert "\n" not in str(caught.value)
    assert "table.csv" in str(caught.value) or "targets" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.doc", b"", r"is .csv, .tsv, .txt, .xlsx, .parquet, .json"),
        ("t.xlsx", b"", "cannot be read"),
        ("t.parquet", b"no parquet", "cannot be read"),
        ("t.json", b"{", "cannot be read"),
        ("t.json", b'{"a": 1}', "list of records"),
        ("t.csv", b"\xff\xfe\x00\x01", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TargetError, match=said) as caught:
        read_properties(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_table_or_targets_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no such property table"):
        read_properties(tmp_path / "none.csv")
    with pytest.raises(TargetError, match=r"none.yaml: cannot be read"):
        read(tmp_path, CSV, targets=tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("x: [")
    with pytest.raises(TargetError, match="not YAML"):
        read(tmp_path, CSV, targets=tmp_path / "bad.yaml")
