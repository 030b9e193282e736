"""Ingest from tar and zip archives, which are read as if they were folders and never unpacked as a whole."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from taskgroup.datasets import check, ingest, load_dataset
from taskgroup.densities import archives
from taskgroup.errors import InputError

from .test_layouts import chgcar

lz4 = pytest.importorskip("lz4.frame")


def write_tar(path: Path, contents: dict[str, bytes]) -> Path:
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_table(path: Path, ids: list[str]) -> Path:
    lines = [f"{row_id},{number**2}" for number, row_id in enumerate(ids)]
    path.write_text("\n".join(["id,x", *lines]) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As DeepDFT publishes densities: one compressed file a crystal, all of them in a tar."""
    folder = tmp_path / "set"
    folder.mkdir()
    contents = {}
    for number in range(6):
        text = chgcar(a=4 + 0.1 * number)
        contents[f"{number:03d}.CHGCAR.lz4"] = lz4.compress(text.encode())
    contents["._000.CHGCAR"] = b"what macOS adds"
    contents["README"] = b"no density"
    write_tar(folder / "CHGCARs.tar.gz", contents)
    return folder


IDS = [f"{number:03d}" for number in range(6)]


def test_densities_of_a_tar_are_ingested_from_the_folder_and_from_the_archive(
    folder: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "p.csv", IDS[::-1])
    report = ingest(folder, table, tmp_path / "a", grid=8, workers=1)
    assert (report.n_rows, report.refused) == (6, ())
    ingest(folder / "CHGCARs.tar.gz", table, tmp_path / "b", grid=8, workers=1)
    first, second = load_dataset(tmp_path / "a"), load_dataset(tmp_path / "b")
    assert first.ids == tuple(IDS[::-1])
    assert first.hash == second.hash


def test_the_rows_of_an_archive_are_read_in_one_pass(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    passes = []
    plain = archives.entries
    monkeypatch.setattr(archives, "entries", lambda path: passes.append(path) or plain(path))
    table = write_table(tmp_path / "p.csv", IDS[::-1])
    assert check(folder, table, grid=8, workers=1).n_rows == 6
    assert len(passes) == 1


def test_an_archive_per_calculation_names_its_row(tmp_path: Path) -> None:
    folder = tmp_path / "calcs"
    folder.mkdir()
    write_tar(folder / "mp-1.tar.gz", {"static/CHGCAR": chgcar().encode(), "INCAR": b"x"})
    with zipfile.ZipFile(folder / "mp-2.zip", "w") as archive:
        archive.writestr("relax/CHGCAR", chgcar())
        archive.writestr("static/CHGCAR", chgcar(a=5))
    report = check(folder, write_table(tmp_path / "p.csv", ["mp-1", "mp-2"]), grid=8, workers=1)
    assert report.n_rows == 2
    assert "'static' is taken, not relax: mp-2" in "\n".join(report.notes)


def test_a_damaged_archive_stops_neither_its_whole_members_nor_other_files(
    tmp_path: Path,
) -> None:
    (tmp_path / "x_CHGCAR").write_text(chgcar())
    contents = {f"{row_id}.CHGCAR": chgcar().encode() for row_id in IDS}
    archive = write_tar(tmp_path / "set.tar", contents)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    report = check(tmp_path, write_table(tmp_path / "p.csv", [*IDS, "x"]), grid=8, workers=1)
    assert 3 <= report.n_rows <= 5
    assert "truncated or damaged" in "\n".join(report.notes)


def test_a_damaged_member_is_refused_and_the_others_are_taken(tmp_path: Path) -> None:
    contents = {
        "a.CHGCAR": chgcar().encode(),
        "b.CHGCAR": b"no density",
        "c/CHGCAR": chgcar(a=5).encode(),
        "../../d.CHGCAR": chgcar(a=6).encode(),
    }
    archive = write_tar(tmp_path / "set.tar", contents)
    report = check(archive, write_table(tmp_path / "p.csv", list("abcd")), grid=8, workers=1)
    assert report.n_rows == 3
    assert [entry.id for entry in report.refused] == ["b"]
    assert not (tmp_path.parent / "d.CHGCAR").exists()


def test_an_archive_without_densities_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "set.tar", {"README": b"text"})
    with pytest.raises(InputError, match="nothing there belongs to a row"):
        check(archive, write_table(tmp_path / "p.csv", ["a", "b"]), workers=1)
