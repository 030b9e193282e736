"""Tables as people, programs and spreadsheets write them, beyond the plain forms of ``test_tables``."""

import json
from pathlib import Path

import pandas as pd
import pytest

from taskgroup.datasets import read_properties
from taskgroup.errors import TargetError


def read(tmp_path: Path, text: str, name: str = "t.csv", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_properties(path, **options)


def values(properties, name: str) -> list[float]:
    return properties.table.column(name).tolist()


@pytest.mark.parametrize("row", [",(GPa),[eV]", "unit,GPa,eV", "units,{GPa},(eV)"])
def test_a_row_of_units_may_have_brackets(tmp_path: Path, row: str) -> None:
    table = read(tmp_path, f"id,K,gap\n{row}\na,1,2\nb,3,4\n").table
    assert [spec.unit for spec in table.specs] == ["GPa", "eV"]


@pytest.mark.parametrize(
    ("cells", "expected", "unit"),
    [
        (["5 GPa", "6.5 GPa", "n/a"], [5, 6.5], "GPa"),
        (["50%", "6 %", "7%"], [50, 6, 7], "%"),
        (["1.5e3 meV/atom", "-2 meV/atom", "3 meV/atom"], [1500, -2, 3], "meV/atom"),
        (["1.5(2)", "6.1(13)", "7"], [1.5, 6.1, 7], ""),
        (["1.5 ± 0.2", "2 +/- 1", "3±1e-2"], [1.5, 2, 3], ""),
        (["1 234.5", "2\u00a0000.5", "7.25"], [1234.5, 2000.5, 7.25], ""),
    ],
)
def test_what_stands_beside_a_number_is_understood(
    tmp_path: Path, cells: list[str], expected: list[float], unit: str
) -> None:
    lines = [f"{row},{cell}" for row, cell in zip("abc", cells, strict=True)]
    table = read(tmp_path, "\n".join(["id,K", *lines])).table
    found = table.column("K")
    assert found[~pd.isna(found)].tolist() == expected
    assert table.specs[0].unit == unit


@pytest.mark.parametrize(
    ("header", "cells", "reason"),
    [
        ("K", ["5 GPa", "6 kbar"], "needs a number"),
        ("K (kbar)", ["5 GPa", "6 GPa"], "its header says 'kbar', its cells 'GPa'"),
        ("K", ["5 apples", "6 apples"], "apples"),
        ("K", ["<5", "6"], "needs a number"),
    ],
)
def test_units_in_cells_that_are_not_clear_are_refused(
    tmp_path: Path, header: str, cells: list[str], reason: str
) -> None:
    text = f"id,{header},L\na,{cells[0]},1\nb,{cells[1]},2\n"
    properties = read(tmp_path, text)
    assert properties.table.names == ("L",)
    assert reason in properties.left_out[0].reason
    with pytest.raises(TargetError, match=reason):
        read(tmp_path, text, targets=["K"])


def test_numbers_with_a_unit_are_those_of_the_header_in_another_spelling(tmp_path: Path) -> None:
    table = read(tmp_path, "id,rho (g/cm3)\na,5 g/cm^3\nb,6 g/cm^3\n").table
    assert table.column("rho").tolist() == [5, 6]


@pytest.mark.parametrize(
    ("yes", "no"),
    [("ja", "nein"), ("ON", "off"), ("Oui", "non"), ("Y", "N"), ("t", "F"), (".TRUE.", ".false.")],
)
def test_truth_in_other_words_is_a_class(tmp_path: Path, yes: str, no: str) -> None:
    properties = read(tmp_path, f"id,metal\na,{yes}\nb,{no}\nc,n/a\n")
    assert values(properties, "metal")[:2] == [1, 0]
    assert properties.table.specs[0].kind == "classification"


def test_elements_are_no_truth_values(tmp_path: Path) -> None:
    properties = read(tmp_path, "id,anion,K\na,F,1\nb,N,2\nc,F,3\n")
    assert properties.table.names == ("K",)
    assert "anion" in properties.left_out[0].what


def test_columns_may_be_separated_by_spaces(tmp_path: Path) -> None:
    properties = read(tmp_path, "id    K   gap\na   1.5    2\nb  2.5   3\n", "t.dat")
    assert values(properties, "gap") == [2, 3]
    assert "columns are separated by spaces" in properties.notes
    properties = read(tmp_path, "# id K\na 1.5\nb 2.5\n", "t.txt")
    assert values(properties, "K") == [1.5, 2.5]


def test_a_column_that_may_name_the_rows_is_proposed(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"--id-column.*'struct_name' are all different"):
        read(tmp_path, "K,struct_name,phase\n1,a,x\n2,b,x\n")


def test_a_row_with_too_many_cells_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [f"r{number},{number}" for number in range(8)]
    properties = read(tmp_path, "\n".join(["id,K", *rows, "bad,1,5"]))
    assert len(properties.table) == 8
    assert properties.left_out[0].what == "row 9"
    assert "3 cells for 2 columns" in properties.left_out[0].reason
    with pytest.raises(TargetError, match="row 1 has 3 cells for 2 columns"):
        read(tmp_path, "id,K\na,1,5\nb,2,5\nc,3\n")


def test_an_open_quotation_mark_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="a quotation mark is not closed"):
        read(tmp_path, 'id,K\n"a,1\nb,2\n')
    assert len(read(tmp_path, 'id,K,text\n"a",1,"two\nlines"\nb,2,x\n').table) == 2


def test_missing_values_of_pandas_extension_types_are_missing(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "K": pd.array([1, None, 3], dtype="Int64"),
            "metal": pd.array([True, None, False], dtype="boolean"),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    properties = read_properties(tmp_path / "t.parquet")
    assert values(properties, "K")[0::2] == [1, 3]
    assert properties.table.spec("metal").kind == "classification"


def test_matbench_json_takes_its_index_for_ids(tmp_path: Path) -> None:
    structure = {"@module": "pymatgen.core.structure"}
    document = {
        "index": ["mb-1", "mb-2"],
        "columns": ["structure", "gap"],
        "data": [[structure, 1.0], [structure, 2.0]],
    }
    properties = read(tmp_path, json.dumps(document), "t.json")
    assert properties.table.ids == ("mb-1", "mb-2")
    assert values(properties, "gap") == [1, 2]


def test_the_answer_of_a_web_service_is_its_data(tmp_path: Path) -> None:
    document = {"data": [{"material_id": "a", "K": 1}, {"material_id": "b", "K": 2}], "meta": {}}
    assert values(read(tmp_path, json.dumps(document), "t.json"), "K") == [1, 2]
