import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from taskgroup.densities import read_structure, read_structures
from taskgroup.errors import DensityError

SALT = Structure(
    Lattice([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]
)
ROW = {
    "material_id": "mp-1",
    "lattice": SALT.lattice.matrix.tolist(),
    "species": ["Na", "Cl"],
    "frac_coords": SALT.frac_coords.tolist(),
}


@pytest.mark.parametrize("name", ["salt.cif", "POSCAR", "salt.json"])
def test_any_pymatgen_file_is_read(tmp_path: Path, name: str) -> None:
    SALT.to(filename=str(tmp_path / name))
    found = read_structure(tmp_path / name)
    assert found.volume == pytest.approx(SALT.volume, rel=1e-4)
    assert sorted(site.specie.symbol for site in found) == ["Cl", "Na"]


@pytest.mark.parametrize("name", ["broken.cif", "POSCAR", "broken.json", "notes.txt"])
def test_a_file_without_a_structure_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("nothing\nof that kind\n")
    with pytest.raises(DensityError, match=name) as caught:
        read_structure(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DensityError, match="no such file"):
        read_structure(tmp_path / "salt.cif")


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_structures_come_one_by_one_with_their_ids(tmp_path: Path, packed: bool) -> None:
    other = {"id": 7} | {key: value for key, value in ROW.items() if key != "material_id"}
    text = json.dumps(ROW) + "\n\n" + json.dumps(other) + "\n"
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    names, structures = zip(*read_structures(path), strict=True)
    assert names == ("mp-1", "7")
    np.testing.assert_allclose(structures[1].lattice.matrix, SALT.lattice.matrix)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: must be one JSON object"),
        ("[1, 2]", "line 2: must have the keys lattice, species, frac_coords, material_id or id"),
        (json.dumps(ROW | {"species": ["Na"]}), "line 2: must describe a crystal"),
        (json.dumps(ROW | {"species": ["Na", "Cl,spin=1+2l"]}), "line 2: must describe a crystal"),
        (
            json.dumps(ROW | {"frac_coords": [["a", 0, 0], [0, 0, 0]]}),
            "line 2: must describe a crystal",
        ),
        (
            json.dumps({"material_id": "a"}),
            "line 2: must have the keys lattice, species, frac_coords",
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + line + "\n")
    rows = read_structures(path)
    assert next(rows)[0] == "mp-1"
    with pytest.raises(DensityError, match=message):
        next(rows)


def test_a_truncated_archive_is_refused_after_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode() * 100)[:-20])
    with pytest.raises(DensityError, match=r"rows\.jsonl\.gz"):
        list(read_structures(path))
