"""Folders as people and workflow programs leave them."""

import gzip
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import check, ingest, load_dataset, promolecules
from taskgroup.datasets.ingest.sources import find_densities
from taskgroup.densities import promolecule
from taskgroup.errors import ConfigError, InputError

UUID = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"


def chgcar(n_valence: float = 3.0, grid: int = 8, symbol: str = "Al", a: float = 4.0) -> str:
    """A CHGCAR of one atom whose density is a bump of ``n_valence`` electrons."""
    axis = (1 + np.cos(2 * np.pi * np.arange(grid) / grid)) / 2
    bump = axis[:, None, None] * axis[:, None] * axis
    values = bump / bump.mean() * n_valence
    head = f"made here\n1.0\n{a} 0 0\n0 {a} 0\n0 0 {a}\n{symbol}\n1\nDirect\n0 0 0\n\n"
    numbers = "\n".join(f"{value:.10E}" for value in values.ravel(order="F"))
    return f"{head}{grid} {grid} {grid}\n{numbers}\n"


def place(root: Path, *names: str, content: str | None = None) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = chgcar() if content is None else content
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)


def files_of(root: Path, *ids: str, **options) -> dict[str, str]:
    """The file that is taken for each row, relative to the root."""
    matched = find_densities(root, dict.fromkeys(ids), **options)
    return {source.id: source.files[0].relative_to(root).as_posix() for source in matched.sources}


def notes_of(root: Path, *ids: str, **options) -> str:
    return "\n".join(find_densities(root, dict.fromkeys(ids), **options).notes)


def test_the_id_may_stand_in_any_folder_above_the_file(tmp_path: Path) -> None:
    place(tmp_path, "mp-1/static/CHGCAR", "set/mp-2/a/b/CHGCAR.gz", "mp-3/CHGCAR")
    assert files_of(tmp_path, "mp-1", "mp-2", "mp-3") == {
        "mp-1": "mp-1/static/CHGCAR",
        "mp-2": "set/mp-2/a/b/CHGCAR.gz",
        "mp-3": "mp-3/CHGCAR",
    }
    notes = notes_of(tmp_path, "mp-1", "mp-2", "mp-3")
    assert "files are matched as '{id}/static': mp-1" in notes


def test_of_several_steps_of_a_workflow_the_static_one_is_taken_and_told(tmp_path: Path) -> None:
    place(tmp_path, "mp-1/static/CHGCAR", "mp-2/static/CHGCAR", "mp-2/relax/CHGCAR")
    assert files_of(tmp_path, "mp-1", "mp-2")["mp-2"] == "mp-2/static/CHGCAR"
    assert "of several folders 'static' is taken, not relax: mp-2" in notes_of(
        tmp_path, "mp-1", "mp-2"
    )


@pytest.mark.parametrize(
    ("names", "taken", "guess"),
    [
        (["mp-1-static/CHGCAR", "mp-1-relax/CHGCAR"], "mp-1-static/CHGCAR", "{id}-static"),
        (["mp-1_scf/out/CHGCAR"], "mp-1_scf/out/CHGCAR", "{id}_scf/out"),
        (["mp-1-static.cube", "mp-1-relax.cube"], "mp-1-static.cube", "{id}-static"),
        (["mp-1/nscf/CHGCAR", "mp-1/scf/CHGCAR"], "mp-1/scf/CHGCAR", "{id}/scf"),
        (
            ["mp-1/01_relax/CHGCAR", "mp-1/02_static/CHGCAR"],
            "mp-1/02_static/CHGCAR",
            "{id}/02_static",
        ),
    ],
)
def test_a_step_may_be_a_part_of_a_name(
    tmp_path: Path, names: list[str], taken: str, guess: str
) -> None:
    place(tmp_path, *names)
    assert files_of(tmp_path, "mp-1") == {"mp-1": taken}
    assert f"files are matched as '{guess}': mp-1" in notes_of(tmp_path, "mp-1")


def test_the_outputs_of_an_aiida_node_go_before_its_inputs(tmp_path: Path) -> None:
    node = f"{UUID[:2]}/{UUID[2:4]}/{UUID[4:]}"
    place(tmp_path, f"{node}/CHGCAR", f"{node}/raw_input/CHGCAR")
    assert files_of(tmp_path, UUID) == {UUID: f"{node}/CHGCAR"}


def test_steps_that_nobody_can_rank_refuse_their_row_only(tmp_path: Path) -> None:
    place(tmp_path, "mp-1/one/CHGCAR", "mp-1/two/CHGCAR", "mp-2/one/CHGCAR")
    matched = find_densities(tmp_path, {"mp-1": None, "mp-2": None})
    assert [source.id for source in matched.sources] == ["mp-2"]
    assert "found 2" in matched.refused[0].reason
    assert "--match" in matched.refused[0].reason
    assert files_of(tmp_path, "mp-1", "mp-2", match="{id}/two") == {"mp-1": "mp-1/two/CHGCAR"}


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("runs/mp-1/static/CHGCAR.gz", "{id}/static"),
        ("runs/mp-1/static/CHGCAR.gz", "runs/{id}/*"),
        ("a/b/mp-1_final/out/CHGCAR", "{id}_final/out"),
        ("densities/rho_mp-1.cube", "rho_{id}.cube"),
        ("x/static/mp-1/CHGCAR", "static/{id}"),
    ],
)
def test_a_pattern_says_where_the_id_stands(tmp_path: Path, name: str, pattern: str) -> None:
    place(tmp_path, name, "other/mp-9/relax/CHGCAR")
    assert files_of(tmp_path, "mp-1", match=pattern) == {"mp-1": name}


@pytest.mark.parametrize("pattern", ["static", "{id}/{id}", "{ID}/x", ""])
def test_a_pattern_without_an_id_is_refused(tmp_path: Path, pattern: str) -> None:
    place(tmp_path, "mp-1/CHGCAR")
    with pytest.raises(ConfigError, match=r"must have \{id\} once"):
        files_of(tmp_path, "mp-1", match=pattern)


def test_a_compressed_copy_is_told_and_not_taken(tmp_path: Path) -> None:
    place(tmp_path, "mp-1/CHGCAR", "mp-1/CHGCAR.gz", "mp-2/CHGCAR.gz")
    assert files_of(tmp_path, "mp-1", "mp-2") == {"mp-1": "mp-1/CHGCAR", "mp-2": "mp-2/CHGCAR.gz"}
    assert "of a file and its compressed copy, CHGCAR is taken: mp-1" in notes_of(
        tmp_path, "mp-1", "mp-2"
    )


@pytest.mark.parametrize(
    "other", ["spin.cube", "v_hartree.cube", "elf.cube", "mo-12.cube", "density_diff.cube"]
)
def test_of_a_density_and_other_fields_the_density_is_taken(tmp_path: Path, other: str) -> None:
    place(tmp_path, "mp-1/density.cube", f"mp-1/{other}")
    assert files_of(tmp_path, "mp-1") == {"mp-1": "mp-1/density.cube"}


def test_ids_may_be_paths(tmp_path: Path) -> None:
    place(tmp_path, "a/1/CHGCAR", "b/1/CHGCAR", "c/x.cube")
    ids = ("a/1", "b/1/CHGCAR", "c/x.cube")
    assert files_of(tmp_path, *ids) == {
        "a/1": "a/1/CHGCAR",
        "b/1/CHGCAR": "b/1/CHGCAR",
        "c/x.cube": "c/x.cube",
    }


def test_an_aiida_repository_and_atomate2_launchers(tmp_path: Path) -> None:
    launcher = "block_2026-01-01/launcher_2026-01-02-03-04-05-678901"
    place(tmp_path, f"{UUID[:2]}/{UUID[2:4]}/{UUID[4:]}/CHGCAR", f"{launcher}/CHGCAR.gz")
    found = files_of(tmp_path, UUID, launcher.split("/")[1])
    assert set(found) == {UUID, launcher.split("/")[1]}


def write_table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_the_electrons_of_a_row_may_be_stated_in_the_table(tmp_path: Path) -> None:
    for name, count in (("doped", 2.5), ("plain", 3), ("other", 2.25)):
        place(tmp_path / "in", f"{name}/CHGCAR", content=chgcar(count, a=4 + count))
    rows = ("doped,2.5,1", "plain,,2", "other,3,4")
    table = write_table(tmp_path / "t.csv", "id,electrons,K", *rows)
    report = ingest(tmp_path / "in", table, tmp_path / "store", grid=8)
    assert load_dataset(tmp_path / "store").ids == ("doped", "plain")
    assert "must hold 3 electrons" in report.refused[0].reason


def test_check_does_all_of_ingest_but_write(tmp_path: Path) -> None:
    place(tmp_path / "in", "a/CHGCAR", "b/CHGCAR", "c/one/CHGCAR", "c/two/CHGCAR")
    place(tmp_path / "in", "d/CHGCAR", content="no density")
    rows = ("a,1,Al", "b,2,Si", "c,3,", "d,4,", "e,5,", ",6,")
    table = write_table(tmp_path / "t.csv", "id,K,formula", *rows)
    before = sorted(tmp_path.rglob("*"))
    report = check(tmp_path / "in", table, grid=8)
    assert sorted(tmp_path.rglob("*")) == before
    assert report.n_rows == 2
    assert {entry.id for entry in report.refused} == {"c", "d"}
    assert report.without_density == ("e",)
    assert report.row_notes == (("b", "the table states Si, the file holds Al"),)
    assert "row 6" in {entry.id for entry in report.left_out}
    made = ingest(tmp_path / "in", table, tmp_path / "store", grid=8)
    assert (made.n_rows, made.refused, made.row_notes) == (
        report.n_rows,
        report.refused,
        report.row_notes,
    )
    refused = (tmp_path / "store" / "refused.csv").read_text()
    assert all(name in refused for name in ("c,", "d,", "row 6,", "column 'formula',", "b,"))


def test_a_parser_that_fails_in_its_own_way_refuses_one_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path / "in", "a/CHGCAR", "b/CHGCAR")
    # the function ingest hides the package of the same name
    rows = import_module("taskgroup.datasets.ingest.rows")

    def fail_once(path: Path, **options: object):
        if "/a/" in str(path):
            raise ZeroDivisionError("deep\ninside")
        return rows_read(path, **options)

    rows_read = rows.read_density
    monkeypatch.setattr(rows, "read_density", fail_once)
    table = write_table(tmp_path / "t.csv", "id,K", "a,1", "b,2", "c,3")
    report = ingest(tmp_path / "in", table, tmp_path / "store", grid=8)
    assert report.n_rows == 1
    assert "ZeroDivisionError: deep inside" in report.refused[0].reason


def test_ids_that_a_spreadsheet_would_run_are_quoted(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://x")'
    place(tmp_path / "in", "a/CHGCAR", f"{formula.replace('/', '')}/CHGCAR")
    place(tmp_path / "in", "b/CHGCAR", content="=cmd|' /C calc'!A0")
    escaped = formula.replace("/", "").replace('"', '""')
    table = write_table(tmp_path / "t.csv", "id,K", "a,1", f'"{escaped}",2', "b,3", "=1+2,4")
    ingest(tmp_path / "in", table, tmp_path / "store", grid=8)
    for line in (tmp_path / "store" / "refused.csv").read_text().splitlines():
        assert not line.startswith(("=", '"='))


CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_chemical_formula_sum '{formula}'
{remark}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
O1 O 0.5 0.5 0.5
"""


def test_structures_without_all_their_atoms_are_refused_or_noted(tmp_path: Path) -> None:
    texts = {
        "good": CIF.format(formula="Na1 O1", remark=""),
        "other": CIF.format(formula="H1 Na1 O1", remark=""),
        "noted": CIF.format(formula="Na O", remark="_refine_details 'H atoms not located'"),
        "says": CIF.format(formula="?", remark="# hydrogen atoms are missing"),
    }
    for name, text in texts.items():
        place(tmp_path / "in", f"{name}.cif", content=text)
    rows = [f"{name},{number}" for number, name in enumerate(texts)]
    table = write_table(tmp_path / "t.csv", "id,K", *rows)
    report = promolecules(tmp_path / "in", table, tmp_path / "store", grid=8)
    assert load_dataset(tmp_path / "store").ids == ("good", "noted")
    reasons = {entry.id: entry.reason for entry in report.refused}
    assert "states the formula NaHO" in reasons["other"]
    assert "says that atoms are missing" in reasons["says"]
    assert "H atoms not located" in dict(report.row_notes)["noted"]


def test_a_structure_that_stands_there_twice_refuses_its_row_only(tmp_path: Path) -> None:
    crystal = {"lattice": (4 * np.eye(3)).tolist(), "species": ["Po"], "frac_coords": [[0, 0, 0]]}
    lines = [{"id": name, **crystal} for name in ("a", "b", "a")]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = write_table(tmp_path / "t.csv", "id,K", "a,1", "b,2")
    report = promolecules(tmp_path / "s.jsonl", table, tmp_path / "store", grid=8)
    assert report.n_rows == 1
    assert "stands there twice" in report.refused[0].reason
    assert promolecule((4 * np.eye(3), ["Po"], [[0, 0, 0]]), n=8).charge == pytest.approx(84)


def test_a_folder_where_all_is_ambiguous_is_refused_with_the_reason(tmp_path: Path) -> None:
    place(tmp_path, "mp-1/one/CHGCAR", "mp-1/two/CHGCAR")
    with pytest.raises(InputError, match="one file is needed"):
        find_densities(tmp_path, {"mp-1": None})
