"""Files as a prediction takes them: archives, stated electrons, one of several configurations."""

import io
import tarfile
from pathlib import Path

import pytest

from taskgroup.cli import main
from taskgroup.errors import DensityError

from ..datasets.test_layouts import chgcar


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "set.tar.gz"
    contents = {"a.CHGCAR": chgcar(), "b/CHGCAR": chgcar(a=5), "c.CHGCAR": "no density"}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_all_densities_of_an_archive_are_predicted(bundle, archive: Path) -> None:
    problems = []
    frame = bundle.predict(archive, on_error=lambda name, error: problems.append(str(error)))
    assert sorted(frame.index) == ["a", "b"]
    assert "set.tar.gz/c.CHGCAR" in problems[0]


def test_one_file_of_an_archive_is_predicted_by_its_path(bundle, archive: Path) -> None:
    whole = bundle.predict(archive, on_error=lambda name, error: None)
    one = bundle.predict([archive / "b" / "CHGCAR"])
    assert one.iloc[0].tolist() == pytest.approx(whole.loc["b"].tolist(), rel=1e-5)
    with pytest.raises(DensityError, match="no such file in the archive"):
        bundle.predict([archive / "d" / "CHGCAR"])


def test_a_damaged_archive_stops_no_other_file(
    saved: Path, archive: Path, tmp_path, capsys
) -> None:
    good = tmp_path / "good_CHGCAR"
    good.write_text(chgcar())
    archive.write_bytes(archive.read_bytes()[:40])
    code, out, err = call(capsys, "predict", saved, archive, good, "--format", "csv")
    assert code == 1
    assert "good_CHGCAR" in out
    assert err.startswith("Error: ")
    assert "truncated or damaged" in err


def test_stated_electrons_let_a_doped_cell_in(saved: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "doped_CHGCAR"
    path.write_text(chgcar(n_valence=2.5))
    code, _, err = call(capsys, "predict", saved, path)
    assert code == 1
    assert "--electrons N" in err
    assert call(capsys, "predict", saved, path, "--electrons", 2.5)[0] == 0
    code, _, err = call(capsys, "predict", saved, path, "--electrons", 2.4)
    assert code == 1
    assert "must hold 2.4 electrons within 1 %, found 2.5000" in err


def test_one_of_several_configurations_is_taken(saved: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "CHG"
    path.write_text(chgcar() + chgcar(a=5))
    alone = tmp_path / "alone_CHG"
    alone.write_text(chgcar(a=5))
    code, _, err = call(capsys, "predict", saved, path)
    assert code == 1
    assert "holds 2 configurations" in err
    assert "--frame" in err
    code, last, _ = call(capsys, "predict", saved, path, "--frame", -1, "--format", "csv")
    assert code == 0
    expected = call(capsys, "predict", saved, alone, "--format", "csv")[1]
    assert last.splitlines()[1].split(",")[1:] == expected.splitlines()[1].split(",")[1:]
    assert call(capsys, "predict", saved, path, "--frame", 2)[0] == 1
