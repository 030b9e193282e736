"""Folders of calculations as inputs of a prediction: one density, or structure, per material."""

import re
from collections.abc import Iterator
from pathlib import Path

from taskgroup.datasets.sources import Source, find_densities, find_structures
from taskgroup.densities import readers
from taskgroup.errors import InputError

_COMPRESSED = (".gz", ".xz", ".bz2")

# VASP's file names; what is left of a name is the material's, as in mp-19_CHGCAR.
_VASP_NAME = re.compile(r"(?:^|[_.\-])(AECCAR[012]|CHGCAR|CHG|POSCAR|CONTCAR)(?=$|[_.\-])")


def folder_sources(folder: Path, kind: str) -> tuple[Source, ...]:
    """Return the density of every material under a folder; for bundles of kind ``promolecule``, its structure.

    The id is the file's name without endings and VASP names (``mp-19.cube``), else the name of its folder
    (``mp-19/CHGCAR``), as in ``taskgroup data ingest``. Raises InputError: nothing there, or two files for one id.
    """
    if kind == "promolecule":
        ids = _ids(folder, densities_only=False)
        return find_structures(folder, ids).sources
    ids = _ids(folder, densities_only=True)
    if not ids:
        raise InputError(f"{folder}: needs density files (CHGCAR, *.cube, ...), but has none")
    return find_densities(folder, ids, all_electron=kind == "all-electron").sources


def _ids(folder: Path, densities_only: bool) -> list[str]:
    ids: dict[str, None] = {}
    for path in _files(folder):
        if not densities_only or any(reader.suits(path) for reader in readers()):
            ids[_id(path)] = None
    return list(ids)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _id(path: Path) -> str:
    name = path.name
    if path.suffix in _COMPRESSED:
        name = path.stem
    rest = _VASP_NAME.sub("", name).strip("_.-")
    return Path(rest).stem or path.resolve().parent.name
