"""``taskgroup data show``: one density in words, numbers and pictures."""

import json
from pathlib import Path

import pytest

from taskgroup.cli import main
from taskgroup.datasets import ingest

from ..datasets.test_layouts import chgcar


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mp-1_CHGCAR"
    path.write_text(chgcar(a=4))
    return path


def test_a_file_is_shown_in_words(file: Path, capsys) -> None:
    code, out, _ = call(capsys, "data", "show", file)
    assert code == 0
    assert "8 x 8 x 8 points, 1 atoms, 3.0000 electrons" in out
    assert "agreement  1.00" in out
    assert "Al" in out
    assert "seen by a network" in out
    assert "summed along c" in out


def test_numbers_for_programs_add_up(file: Path, capsys) -> None:
    code, out, _ = call(capsys, "data", "show", file, "--json")
    assert code == 0
    shown = json.loads(out)
    assert sum(band["share"] for band in shown["waves"]) == pytest.approx(1)
    # a bump of cosines with the edge of the cell, 4 Å, and its products along two and three axes
    assert shown["waves"][1]["share"] == pytest.approx(1, abs=1e-6)
    assert shown["waves"][1]["longest"] == 4
    assert shown["sites"][0]["symbol"] == "Al"
    assert shown["sites"][0]["peak_distance"] == pytest.approx(0, abs=0.01)
    assert shown["lone_peaks"] == []


def test_a_page_holds_all_its_pictures(file: Path, tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.html"
    assert call(capsys, "data", "show", file, "--html", page)[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 3
    assert "http" not in text
    assert "<script" not in text


def test_a_row_of_a_store_is_shown_with_its_targets(file: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "mp-2_CHGCAR").write_text(chgcar(a=5))
    table = tmp_path / "p.csv"
    table.write_text("id,K (GPa)\nmp-1,76\nmp-2,80\n")
    ingest(tmp_path, table, tmp_path / "store", grid=8, workers=1)
    code, out, _ = call(capsys, "data", "show", tmp_path / "store", "--id", "mp-1")
    assert code == 0
    assert "target K" in out
    assert "76 GPa" in out
    code, _, err = call(capsys, "data", "show", tmp_path / "store", "--id", "mp-3")
    assert code == 2
    assert "no row 'mp-3'; did you mean" in err
    code, _, err = call(capsys, "data", "show", tmp_path / "store")
    assert code == 2
    assert "--id" in err


@pytest.mark.parametrize("content", ["", "no density"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: str, capsys) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(content)
    code, out, err = call(capsys, "data", "show", path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_atoms_of_another_origin_are_told(tmp_path: Path, capsys) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar(a=4).replace("Direct\n0 0 0", "Direct\n0.5 0.5 0.5"))
    code, out, _ = call(capsys, "data", "show", path)
    assert code == 0
    assert "note: the atoms do not lie where the density has its peaks" in out
    assert "not found" in out
    assert "peaks without an atom" in out
