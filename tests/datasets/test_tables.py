"""Tables as people really have them; every input is made here."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taskgroup.datasets import Properties, read_properties
from taskgroup.errors import TargetError


def read(folder: Path, content: str | bytes, name: str = "t.csv", **options) -> Properties:
    if isinstance(content, str):
        content = content.encode()
    (folder / name).write_bytes(content)
    return read_properties(folder / name, **options)


def labels(properties: Properties) -> dict[str, dict[str, float]]:
    """Labels by target and id."""
    table = properties.table
    return {name: dict(zip(table.ids, table.column(name), strict=True)) for name in table.names}


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "formula,x\nNa,3.5\nMg,2\nSi,4\n",
        "name,x,y\nMg,2,1\nNa,3.5,0.3\nSi,4,2\n",
        "id,x\nNaN,1\nNa,3.5\nnan,2\n",
        "id,x\nNone,1\nNa,3.5\nnull,2\n",
        "id,x\n?,1\nNa,3.5\n-,2\n",
    ],
)
def test_a_row_is_never_lost_because_its_id_reads_like_a_word_for_missing(
    tmp_path: Path, text: str
) -> None:
    found = read(tmp_path, text)
    assert len(found.table) == 3
    assert labels(found)["x"]["Na"] == 3.5
    assert found.left_out == ()


@pytest.mark.parametrize(
    "header",
    ["ID", "Id", "Material ID", "material-id", "mp_id", "mpid", "jid", "oqmd_id", "Structure ID", "CIF_ID", "#id"],
)  # fmt: skip
def test_usual_names_of_ids_are_known_in_any_spelling(tmp_path: Path, header: str) -> None:
    assert read(tmp_path, f"{header},x\na1,1\na2,2\n").table.ids == ("a1", "a2")


def test_any_other_column_of_ids_is_asked_for_in_any_case(tmp_path: Path) -> None:
    text = "crystal,x\na1,1\na2,2\n"
    with pytest.raises(TargetError, match=r"no id column.*--id-column"):
        read(tmp_path, text)
    assert read(tmp_path, text, id_column="Crystal").table.ids == ("a1", "a2")


def test_the_default_index_of_pandas_is_left_out_and_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"material_id": ["m1", "m2"], "K": [1.5, 2.5]})
    frame.to_csv(tmp_path / "once.csv")
    pd.read_csv(tmp_path / "once.csv").to_csv(tmp_path / "twice.csv")
    for name in ("once.csv", "twice.csv"):
        found = read_properties(tmp_path / name)
        assert labels(found) == {"K": {"m1": 1.5, "m2": 2.5}}
        assert any("has no name and counts the rows" in note for note in found.notes)
        assert all(entry.what.startswith("column") for entry in found.left_out)


def test_an_index_of_ids_without_a_name_holds_the_ids(tmp_path: Path) -> None:
    pd.DataFrame({"K": [1.5, 2.5]}, index=["m1", "m2"]).to_csv(tmp_path / "t.csv")
    assert labels(read_properties(tmp_path / "t.csv")) == {"K": {"m1": 1.5, "m2": 2.5}}


def test_a_table_without_a_header_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, "m-1,1.25\nm-2,3\n", "id_prop.csv")
    assert labels(found) == {"property": {"m-1": 1.25, "m-2": 3}}
    assert any("no header" in note for note in found.notes)
    numbered = read(tmp_path, "0,1.25,7\n1,3,8.5\n", "id_prop.csv")
    assert labels(numbered)["property_2"] == {"0": 7, "1": 8.5}


def test_other_columns_of_ids_are_no_targets(tmp_path: Path) -> None:
    found = read(tmp_path, "material_id,icsd_id,K\nm1,1201,1\nm2,33,2\n")
    assert found.table.names == ("K",)


def test_rows_without_an_id_and_repeated_rows_are_left_out_and_named(tmp_path: Path) -> None:
    found = read(tmp_path, "id,x\nA,1\n,2\nA,1\nid,x\n,\nB,3\n")
    assert labels(found) == {"x": {"A": 1, "B": 3}}
    assert [(entry.what, entry.reason) for entry in found.left_out] == [
        ("row 2", "it has no id"),
        ("row 3 ('A')", "it repeats an earlier row"),
        ("row 4 ('id')", "it repeats the header"),
    ]


# -- the row of units --------------------------------------------------------------------------------------------------


def test_a_row_of_units_has_no_id_and_no_number(tmp_path: Path) -> None:
    units = read(tmp_path, "id,K,n,gap\n,GPa,-,eV\na,1,2,3\nb,2,3,1\n").table
    assert [spec.unit for spec in units.specs] == ["GPa", "", "eV"]
    named_unit = read(tmp_path, "id,K\nunit,5\na,1\n").table
    assert named_unit.ids == ("unit", "a")
    no_id = read(tmp_path, "id,K\n,5\na,1\nb,2\n")
    assert no_id.table.ids == ("a", "b")
    assert no_id.left_out[0].what == "row 1"


def test_a_unit_that_does_not_parse_stops_only_its_column(tmp_path: Path) -> None:
    found = read(tmp_path, "id,K,gap\n,GPaa,eV\na,1,2\nb,2,3\n")
    assert found.table.names == ("gap",)
    assert "'GPaa' does not parse" in found.left_out[0].reason


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("density (g/cm3)", "density", "g/cm3"),
        ("E_F / eV", "E_F", "eV"),
        ("E_F/eV", "E_F", "eV"),
        ("gap%", "gap", "%"),
        ("gap [%]", "gap", "%"),
        ("formation energy, eV/atom", "formation_energy", "eV/atom"),
        ("volume {Å^3}", "volume", "Å^3"),
        ("pressure in kbar", "pressure", "kbar"),
        ("energy/atom", "energy/atom", None),
        ("K (VRH)", "K_VRH", ""),
        ("K (VRH) [GPa]", "K_VRH", "GPa"),
        ("poisson (-)", "poisson", ""),
        ("V (Angstrom^3)", "V", "Angstrom^3"),
        ("mass (amu)", "mass", "amu"),
        ("energy (eV per atom)", "energy", "eV per atom"),
    ],
)
def test_names_and_units_of_headers(
    tmp_path: Path, header: str, name: str, unit: str | None
) -> None:
    found = read(tmp_path, f'id,"{header}",x\na,1.5,1\nb,2,3\n')
    if unit is None:
        assert found.table.names == ("x",)
        assert "a name is made of" in found.left_out[0].reason
    else:
        assert found.table.names == (name, "x")
        assert found.table.spec(name).unit == unit


def test_a_target_may_be_asked_for_by_its_whole_header(tmp_path: Path) -> None:
    text = "id,density (g/cm3),K (GPa)\na,1,2\nb,3,5\n"
    assert read(tmp_path, text, targets=["density (g/cm3)"]).table.names == ("density",)
    assert read(tmp_path, text, targets=["density"]).table.names == ("density",)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("bulk:modulus", "a name is made of"),
        ("bad", "needs a number, got 'about 2'"),
        ("far", "values are finite"),
        ("twice", "stands there twice"),
    ],
)
def test_a_column_that_nobody_asked_for_never_stops_the_others(
    tmp_path: Path, column: str, reason: str
) -> None:
    text = (
        "id,K,bulk:modulus,bad,far,twice,twice\n"
        "a,1,1,about 2,inf,1,2\nb,2,2,3,1,3,4\nc,4,3,4,2,5,6\n"
    )
    found = read(tmp_path, text)
    assert found.table.names == ("K",)
    entry = next(entry for entry in found.left_out if column in entry.what)
    assert reason in entry.reason
    with pytest.raises(TargetError, match=reason):
        read(tmp_path, text, targets=[column])


# -- cells -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    ["#N/A", "--", "?", "n.a.", "NaN", "nan", "None", "NULL", "<NA>", "-", "N/A", "#DIV/0!", "NaT", "–", "missing", ""],
)  # fmt: skip
def test_words_for_missing_are_missing_labels(tmp_path: Path, word: str) -> None:
    found = read(tmp_path, f"id,x,flag\na,1.5,yes\nb,{word},{word}\nc,2,no\n")
    np.testing.assert_array_equal(found.table.values, [[1.5, 1], [np.nan, np.nan], [2, 0]])


@pytest.mark.parametrize(
    ("yes", "no"),
    [("True", "False"), ("TRUE", "FALSE"), ("yes", "no"), ("t", "f"), ("Y", "N"), (".TRUE.", ".FALSE."),
     ("WAHR", "FALSCH"), ("1", "no")],
)  # fmt: skip
def test_truth_values_are_classes_in_any_spelling(tmp_path: Path, yes: str, no: str) -> None:
    found = read(tmp_path, f"id,metal\na,{yes}\nb,{no}\nc,\n")
    assert found.table.spec("metal").kind == "classification"
    np.testing.assert_array_equal(found.table.column("metal"), [1, 0, np.nan])


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,5", "2"], [1.5, 2]),
        (["1.234,5", "0,25"], [1234.5, 0.25]),
        (["1 234,5", "-2,5e-3"], [1234.5, -0.0025]),
        (["1,234.5", "2,000"], [1234.5, 2000]),
        (["1.5D-03", "−2.5"], [0.0015, -2.5]),
        (["1e3", ".5"], [1000, 0.5]),
    ],
)
def test_numbers_of_all_conventions(tmp_path: Path, cells: list, numbers: list) -> None:
    found = read(tmp_path, f"id;x\na;{cells[0]}\nb;{cells[1]}\n")
    np.testing.assert_allclose(found.table.column("x"), numbers)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["1,234", "2,345"], "may be 1.234 or 1234"),
        (["1,5", "1,234.5"], "mixes decimal commas"),
        (["1,5", "1.234"], "its point may part thousands"),
        (["1_0", "2"], "needs a number, got '1_0'"),
    ],
)
def test_numbers_that_may_mean_two_things_are_refused(
    tmp_path: Path, cells: list, reason: str
) -> None:
    text = f"id;x\na;{cells[0]}\nb;{cells[1]}\n"
    with pytest.raises(TargetError, match=reason):
        read(tmp_path, text)


def test_another_column_with_decimal_commas_settles_what_a_comma_means(tmp_path: Path) -> None:
    found = read(tmp_path, "id;x;y\na;1,234;1,5\nb;2,345;2,75\n")
    np.testing.assert_array_equal(found.table.values, [[1.234, 1.5], [2.345, 2.75]])
    assert "numbers have decimal commas" in found.notes


# -- text files --------------------------------------------------------------------------------------------------------

PLAIN = "id,K,gap\nm1,100.5,1.1\nm2,200.25,0.5\n"
EXPECTED = {"K": {"m1": 100.5, "m2": 200.25}, "gap": {"m1": 1.1, "m2": 0.5}}


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        PLAIN.replace(",", ", "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "# computed by hand\n# in two days\n" + PLAIN,
        "#" + PLAIN,
        "\n\n" + PLAIN + "\n\n",
        'id,K,gap\n"m1","100.5","1.1"\n"m2","200.25","0.5"\n',
        PLAIN.replace("\n", ",,\n"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.txt"])
def test_separators_quotes_comments_and_line_ends(tmp_path: Path, text: str, name: str) -> None:
    assert labels(read(tmp_path, text, name)) == EXPECTED


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    found = read(tmp_path, ("Größe,K (µeV)\n" + "Ä1,1\nÖ2,2\n").encode(encoding), id_column="Größe")
    assert found.table.ids == ("Ä1", "Ö2")
    assert found.table.spec("K").unit == "µeV"


@pytest.mark.parametrize(
    ("name", "compress"),
    [("t.csv.gz", gzip.compress), ("t.csv.bz2", bz2.compress), ("t.CSV.XZ", lzma.compress), ("t.csv", gzip.compress)],
)  # fmt: skip
def test_compressed_tables_are_known_by_content(tmp_path: Path, name: str, compress) -> None:
    assert labels(read(tmp_path, compress(PLAIN.encode()), name)) == EXPECTED


def test_a_short_row_is_filled_up_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, "id,K,gap\nm1,1.5\nm2,2.5,1\nm3,3,2\n")
    assert np.isnan(labels(found)["gap"]["m1"])
    assert any("1 rows have fewer cells" in note for note in found.notes)


# -- other formats -----------------------------------------------------------------------------------------------------


def frame_of_rows(n: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {"material_id": [f"m{i}" for i in range(n)], "K": np.arange(n) * 1.5, "metal": np.arange(n) % 2 == 0}
    )  # fmt: skip


EXPECTED_FRAME = {
    "K": {"m0": 0, "m1": 1.5, "m2": 3, "m3": 4.5},
    "metal": {"m0": 1, "m1": 0, "m2": 1, "m3": 0},
}


@pytest.mark.parametrize("orient", ["columns", "records", "index", "split", "table"])
@pytest.mark.parametrize("indexed", [False, True])
def test_every_orientation_of_to_json(tmp_path: Path, orient: str, indexed: bool) -> None:
    frame = frame_of_rows()
    if indexed:
        frame = frame.set_index("material_id", drop=orient != "records")
    if indexed and orient == "records":
        frame = frame.reset_index(drop=True)
    (tmp_path / "t.json").write_text(frame.to_json(orient=orient))
    assert labels(read_properties(tmp_path / "t.json")) == EXPECTED_FRAME


def test_json_lines_lists_and_nested_records(tmp_path: Path) -> None:
    frame = frame_of_rows()
    lines = frame.to_json(orient="records", lines=True)
    assert labels(read(tmp_path, lines, "t.jsonl")) == EXPECTED_FRAME
    assert labels(read(tmp_path, lines, "t.json")) == EXPECTED_FRAME
    lists = {name: frame[name].tolist() for name in frame}
    assert labels(read(tmp_path, json.dumps(lists), "t.json")) == EXPECTED_FRAME
    records = [{"jid": "J-1", "K": 2.5, "atoms": {"lattice": [1]}}, {"jid": "J-2", "K": "na"}]
    found = read(tmp_path, json.dumps(records), "t.json")
    assert found.table.names == ("K",)
    with pytest.raises(TargetError, match="orient='values'"):
        read(tmp_path, frame.to_json(orient="values"), "t.json")


def test_parquet_with_and_without_an_index(tmp_path: Path) -> None:
    frame = frame_of_rows()
    frame.to_parquet(tmp_path / "a.parquet")
    frame.set_index("material_id").to_parquet(tmp_path / "b.parquet")
    frame.set_index("material_id").rename_axis(None).to_parquet(tmp_path / "c.PARQUET")
    frame.iloc[::-1].to_parquet(tmp_path / "d.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert labels(read_properties(path)) == EXPECTED_FRAME, path.name


def test_excel(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    frame = frame_of_rows()
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    frame.to_excel(tmp_path / "b.XLSX")
    for name in ("a.xlsx", "b.XLSX"):
        assert labels(read_properties(tmp_path / name)) == EXPECTED_FRAME
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("data")
    sheet.append(["id", "density (g/cm3)", None])
    sheet.append([12, 1.5, "remark"])
    sheet.append([13, "#N/A", None])
    sheet.append([14, 2, None])
    other = book.create_sheet("more")
    other.append(["a", "b"])
    other.append([1, 2])
    book.save(tmp_path / "c.xlsx")
    found = read_properties(tmp_path / "c.xlsx")
    assert found.table.ids == ("12", "13", "14")
    assert found.table.spec("density").unit == "g/cm3"
    assert any("sheet 'data' is read, not more" in note for note in found.notes)
    with pytest.raises(TargetError, match="before 2007"):
        read(tmp_path, b"\xd0\xcf", "t.xls")


def test_ase_databases_and_extended_xyz(tmp_path: Path) -> None:
    pytest.importorskip("ase", reason="ase is not installed")
    import ase.db
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    with ase.db.connect(tmp_path / "t.db") as database:
        for number in range(3):
            atoms = ase.Atoms("Al", cell=[4, 4, 4 + number], pbc=True)
            atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * number)
            database.write(atoms, material_id=f"m{number}", gap=0.5 * number)
            atoms.info.update(material_id=f"m{number}", gap=0.5 * number)
            frames.append(atoms)
    ase.io.write(tmp_path / "t.extxyz", frames)
    for name in ("t.db", "t.extxyz"):
        found = read_properties(tmp_path / name)
        assert found.table.ids == ("m0", "m1", "m2"), name
        assert labels(found)["energy"] == {"m0": 0, "m1": -1.5, "m2": -3}
        assert labels(found)["gap"]["m2"] == 1
        assert found.table.spec("energy").unit == "eV"
    with pytest.raises(TargetError, match="SQLite"):
        read(tmp_path, b"no database", "x.db")


# -- several tables, units, other columns ------------------------------------------------------------------------------


def test_tables_are_joined_by_id(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,K (GPa)\nm1,1\nm2,2\n")
    (tmp_path / "b.csv").write_text("material_id;gap;K\nm2;0,5;\nm3;1,5;3\n")
    found = read_properties([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert found.table.ids == ("m1", "m2", "m3")
    np.testing.assert_array_equal(found.table.column("gap"), [np.nan, 0.5, 1.5])
    assert any("3 ids, 1 in all of them" in note for note in found.notes)
    (tmp_path / "c.csv").write_text("id,K\nm2,7\n")
    found = read_properties([tmp_path / "a.csv", tmp_path / "c.csv"])
    np.testing.assert_array_equal(found.table.column("K"), [1, 2])
    assert any("stands in another table too" in entry.reason for entry in found.left_out)
    (tmp_path / "d.csv").write_text("id,K\nother,7\n")
    with pytest.raises(TargetError, match="no id stands in all of them"):
        read_properties([tmp_path / "a.csv", tmp_path / "d.csv"])


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [
        ("kbar", "GPa", 0.1),
        ("g/cm3", "kg/m^3", 1000),
        ("meV/atom", "eV/atom", 0.001),
        ("nm^3", "Å^3", 1000),
        ("bohr^3", "Å^3", 0.529177210544**3),
        ("Ry", "eV", 13.605693122990),
        ("kJ/mol", "kcal/mol", 1 / 4.184),
    ],
)
def test_a_column_is_converted_to_the_unit_that_is_asked_for(
    tmp_path: Path, unit: str, wanted: str, factor: float
) -> None:
    text = f"id,x ({unit})\na,1\nb,2.5\n"
    found = read(tmp_path, text, targets={"x": {"unit": wanted}})
    np.testing.assert_allclose(found.table.column("x"), [factor, 2.5 * factor], rtol=1e-8)
    assert found.table.spec("x").unit == wanted
    assert any(f"converted from {unit} to {wanted}" in note for note in found.notes)


def test_units_of_another_dimension_are_never_converted(tmp_path: Path) -> None:
    for unit, wanted in (("eV", "eV/atom"), ("GPa", "eV"), ("eV/atom", "kJ/mol"), ("eV", "")):
        with pytest.raises(TargetError, match=f"unit '{unit}', the targets file '{wanted}'"):
            read(tmp_path, f"id,x ({unit})\na,1\nb,2\n", targets={"x": {"unit": wanted}})


def test_a_unit_spelled_otherwise_is_no_conversion(tmp_path: Path) -> None:
    text = "id,x (g/cm3)\na,0.1\nb,0.3\n"
    found = read(tmp_path, text, targets={"x": {"unit": "g cm^-3"}})
    assert found.table.column("x").tolist() == [0.1, 0.3]
    assert found.notes == ()


def test_columns_that_state_electrons_and_formulas_are_kept_by_id(tmp_path: Path) -> None:
    found = read(tmp_path, "id,formula,electrons,K\na,NaCl,7.5,1\nb,Si,,2\n")
    assert found.electrons == {"a": 7.5}
    assert found.formulas == {"a": "NaCl", "b": "Si"}
    assert found.table.names == ("K",)
    asked = read(tmp_path, "id,electrons\na,7.5\nb,8\n", targets=["electrons"])
    assert asked.table.names == ("electrons",)
    assert asked.electrons == {"a": 7.5, "b": 8}


# -- attacks and accidents ---------------------------------------------------------------------------------------------


def test_too_many_columns_and_bombs_are_refused(tmp_path: Path) -> None:
    many = ",".join(f"c{i}" for i in range(20_000))
    with pytest.raises(TargetError, match="at most 5000 columns, found 20001"):
        read(tmp_path, f"id,{many}\na\n")
    record = {f"c{i}": i for i in range(20_000)}
    with pytest.raises(TargetError, match="at most 5000 columns"):
        read(tmp_path, json.dumps([record]), "t.json")
    with gzip.open(tmp_path / "bomb.csv.gz", "wb", compresslevel=1) as file:
        for _ in range(210):
            file.write(bytes(1 << 20))
    with pytest.raises(TargetError, match="at most 200 MB"):
        read_properties(tmp_path / "bomb.csv.gz")
    with pytest.raises(TargetError, match="cannot be read"):
        read(tmp_path, "[" * 100_000, "t.json")


def test_aliases_in_a_targets_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("a: &x {unit: eV}\nb: *x\n")
    with pytest.raises(TargetError, match="aliases"):
        read(tmp_path, PLAIN, targets=tmp_path / "t.yaml")
    (tmp_path / "t.yaml").write_text("[" * 5000)
    with pytest.raises(TargetError, match="not YAML"):
        read(tmp_path, PLAIN, targets=tmp_path / "t.yaml")
