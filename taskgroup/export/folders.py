"""Folders of calculations as inputs of a prediction: one density, or structure, per material."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taskgroup.datasets.ingest.layout import claim_of
from taskgroup.datasets.ingest.sources import Matched, find_densities, find_structures
from taskgroup.densities import density_paths
from taskgroup.errors import InputError


class Material(NamedTuple):
    """The file of a material's density or structure; two files, AECCAR0 and AECCAR2, are summed. Or why it has none."""

    id: str
    files: tuple[Path, ...] = ()
    problem: str = ""


def folder_materials(folder: Path, kind: str) -> list[Material]:
    """Return the density of every material under a folder; for bundles of kind ``promolecule``, its structure.

    The id is the file's name without endings and VASP names (``mp-19.cube``), else the path of its folder
    (``mp-19/CHGCAR``); files are chosen as in ``taskgroup data ingest``. Raises InputError: nothing is there.
    """
    if kind == "promolecule":
        matched = find_structures(folder, _ids(folder, densities_only=False))
    else:
        ids = _ids(folder, densities_only=True)
        if not ids:
            raise InputError(f"{folder}: needs density files (CHGCAR, *.cube, ...), but has none")
        matched = find_densities(folder, ids, all_electron=kind == "all-electron")
    return list(_materials(matched, folder))


def _materials(matched: Matched, folder: Path) -> Iterator[Material]:
    for source in matched.sources:
        yield Material(_shown_id(source.id, folder), source.files)
    for refused in matched.refused:
        yield Material(_shown_id(refused.id, folder), problem=refused.reason)


def _shown_id(row_id: str, folder: Path) -> str:
    """Return the name of the folder itself for files that lie directly in it, as in ``predict model NaCl``."""
    return row_id or folder.resolve().name


def _ids(folder: Path, densities_only: bool) -> list[str]:
    """Return the names that files have where no property table says which row they belong to."""
    ids: dict[str, None] = {}
    paths = density_paths(folder) if densities_only else sorted(folder.rglob("*"))
    for path in paths:
        # an archive that cannot be read is reported where its files are matched
        if not isinstance(path, Path):
            continue
        if densities_only or (path.is_file() and not path.name.startswith(".")):
            ids[claim_of(path, folder, (), None).row_id] = None
    return list(ids)
