"""Values per cell of supercells, and damaged lines of JSON files."""

import json
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import check, ingest, load_dataset, promolecules, read_properties
from taskgroup.errors import TargetError

from .test_layouts import chgcar

TARGETS = {"volume": {"unit": "Å^3", "per": "cell"}, "gap": {"unit": "eV"}}


def doubled(text: str) -> str:
    """The same crystal along c twice: 8 x 8 x 16 points, two atoms."""
    head, _, numbers = text.partition("\n\n8 8 8\n")
    comment, scale, a, b, c, symbol, *_ = head.split("\n")
    edge = 2 * float(c.split()[2])
    head = "\n".join(
        [comment, scale, a, b, f"0 0 {edge}", symbol, "2", "Direct", "0 0 0", "0 0 0.5"]
    )
    values = [f"{2 * float(number):.10E}" for number in numbers.split()]
    return f"{head}\n\n8 8 16\n" + "\n".join(values + values) + "\n"


def test_values_per_cell_of_a_supercell_become_those_of_its_primitive_cells(tmp_path: Path) -> None:
    folder = tmp_path / "calcs"
    folder.mkdir()
    (folder / "one_CHGCAR").write_text(chgcar(a=4))
    (folder / "two_CHGCAR").write_text(doubled(chgcar(a=5)))
    table = tmp_path / "p.csv"
    table.write_text("id,volume,gap\none,64,1.5\ntwo,250,2.5\n")
    report = ingest(folder, table, tmp_path / "store", targets=TARGETS, grid=8, workers=1)
    assert report.refused == ()
    assert "divided by 2" in dict(report.row_notes)["two"]
    assert "1x1x2 supercell" in dict(report.row_notes)["two"]
    dataset = load_dataset(tmp_path / "store")
    assert dataset.targets.column("volume").tolist() == [64, 125]
    assert dataset.targets.column("gap").tolist() == [1.5, 2.5]
    cells = abs(np.linalg.det(dataset.lattices))
    np.testing.assert_allclose(dataset.targets.column("volume"), cells, rtol=1e-6)
    # the second call finds all rows there and joins them with the same labels
    ingest(folder, table, tmp_path / "store", targets=TARGETS, grid=8, workers=1)
    assert load_dataset(tmp_path / "store").hash == dataset.hash


def test_values_of_other_targets_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "two_CHGCAR").write_text(doubled(chgcar(a=5)))
    (tmp_path / "one_CHGCAR").write_text(chgcar(a=4))
    table = tmp_path / "p.csv"
    table.write_text("id,gap\none,1.5\ntwo,2.5\n")
    report = check(tmp_path, table, grid=8, workers=1)
    assert "divided" not in dict(report.row_notes)["two"]


STRUCTURE = {"lattice": (4 * np.eye(3)).tolist(), "species": ["Al"], "frac_coords": [[0, 0, 0]]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "x", "lattice"', "line 2: must be one JSON object"),
        ("[1, 2]", "line 2: must have the keys"),
        ('{"id": "x"}', "line 2: must have the keys lattice"),
        ("\ufffd" * 3, "line 2: must be one JSON object"),
    ],
)
def test_a_damaged_line_stops_no_other_structure(tmp_path: Path, line: str, reason: str) -> None:
    lines = [json.dumps(STRUCTURE | {"id": "a"}), line, json.dumps(STRUCTURE | {"id": "b"})]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    (tmp_path / "p.csv").write_text("id,K\na,1\nb,2\n")
    report = promolecules(
        tmp_path / "s.jsonl", tmp_path / "p.csv", tmp_path / "store", grid=8, workers=1
    )
    assert report.n_rows == 2
    assert reason in report.refused[0].reason
    assert "line 2" in (tmp_path / "store" / "refused.csv").read_text()


def test_a_damaged_line_of_a_table_is_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": "a", "K": 1}\n{"id": "b", "K"\n{"id": "c", "K": 3}\n')
    properties = read_properties(path)
    assert properties.table.ids == ("a", "c")
    assert any("line 2 is left out" in note for note in properties.notes)
    path.write_text('{"id": "a", "K": 1}\nthis is\nno table\n')
    with pytest.raises(TargetError, match="line 2"):
        read_properties(path)
