"""Folders of calculations as inputs of a prediction: one density, or structure, per material."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from taskgroup.datasets.ingest.layout import claim_of
from taskgroup.datasets.ingest.sources import (
    Matched,
    densities_under,
    find_structures,
    match_densities,
)
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
        files = [path for path in sorted(folder.rglob("*")) if _is_shown(path)]
        return list(_materials(find_structures(folder, _ids(files, folder)), folder))
    found = densities_under(folder)
    paths = [place for place in found if isinstance(place, Path)]
    if not found:
        raise InputError(f"{folder}: needs density files (CHGCAR, *.cube, ...), but has none")
    damaged = [
        Material(str(folder), problem=str(error)) for error in found if not isinstance(error, Path)
    ]
    if not paths:
        return damaged
    matched = match_densities(found, folder, _ids(paths, folder), kind == "all-electron")
    return [*_materials(matched, folder), *damaged]


def _is_shown(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _materials(matched: Matched, folder: Path) -> Iterator[Material]:
    for source in matched.sources:
        yield Material(_shown_id(source.id, folder), source.files)
    for refused in matched.refused:
        yield Material(_shown_id(refused.id, folder), problem=refused.reason)


def _shown_id(row_id: str, folder: Path) -> str:
    """Return the name of the folder itself for files that lie directly in it, as in ``predict model NaCl``."""
    return row_id or folder.resolve().name


def _ids(paths: Iterable[Path], folder: Path) -> list[str]:
    """Return the names that files have where no property table says which row they belong to."""
    ids = dict.fromkeys(claim_of(path, folder, (), None).row_id for path in paths)
    return list(ids)
