"""Which file holds the density, or the structure, of which row of a property table."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from taskgroup.densities import readers, structure_lines
from taskgroup.errors import InputError

_COMPRESSED = (".gz", ".xz", ".bz2")
_VASP = re.compile(r"(?:^|[_.\-])(AECCAR[012]|CHGCAR|CHG|POSCAR|CONTCAR)(?=$|[_.\-])")
_STRUCTURES = (".cif", ".mcif", ".vasp", ".poscar", ".json", ".xsf", ".cssr", ".yaml")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """One row's crystal: the file of its density (two: AECCAR0 + AECCAR2) or of its structure, or a line of a file.

    ``line`` is text and becomes a structure where it is used: 100,000 of them are 40 MB, as structures they were 1 GB.
    """

    id: str
    files: tuple[Path, ...] = ()
    line: str | None = None

    def __str__(self) -> str:
        return " + ".join(map(str, self.files)) + (
            "" if self.line is None else f", structure '{self.id}'"
        )


@dataclass(frozen=True)
class Matched:
    """The sources of rows, in the order of their ids, and the names of sources that belong to no row."""

    sources: tuple[Source, ...]
    without_row: tuple[str, ...]


def find_densities(folder: Path, ids: Collection[str], all_electron: bool = False) -> Matched:
    """The density files under ``folder`` by row id.

    The id is the file's name without endings and VASP words (``mp-19.CHGCAR.gz``, ``mp-19_CHGCAR``, ``mp-19.cube``),
    else the name of its folder (``mp-19/CHGCAR``). Of several files of a row the CHGCAR is taken before others, or,
    with ``all_electron``, AECCAR0 + AECCAR2. Raises InputError where two files have the same claim to a row.
    """
    takers = readers()
    files = [path for path in _files(folder) if any(reader.suits(path) for reader in takers)]
    claims: dict[str, dict[str, list[Path]]] = {}
    for path in files:
        word = _VASP.search(_bare(path))
        claims.setdefault(_row_id(path, folder, ids), {}).setdefault(
            word[1] if word else "other", []
        ).append(path)
    chosen = {row: _choose(row, files_of, all_electron) for row, files_of in claims.items()}
    return _matched(
        {row: Source(row, files) for row, files in chosen.items() if files}, ids, folder
    )


def find_structures(place: Path, ids: Collection[str]) -> Matched:
    """Structures by row id: the lines of a ``.jsonl`` or ``.jsonl.gz`` file, or the structure files under a folder."""
    if place.is_file():
        found, files = {}, (place,)
        for row, line, _ in structure_lines(place):
            if row in found:
                raise InputError(f"{place}: structure '{row}' stands there twice")
            found[row] = Source(row, files, line if row in ids else "")
        return _matched(found, ids, place)
    claims: dict[str, list[Path]] = {}
    for path in _files(place):
        if _bare(path).lower().endswith(_STRUCTURES) or re.search("POSCAR|CONTCAR", path.name):
            claims.setdefault(_row_id(path, place, ids), []).append(path)
    return _matched(
        {row: Source(row, _single(row, files)) for row, files in claims.items()}, ids, place
    )


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    )


def _bare(path: Path) -> str:
    return path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSED else path.name


def _row_id(path: Path, folder: Path, ids: Collection[str]) -> str:
    """The first of its names that is a row; else the name by which the report calls it."""
    bare = _bare(path)
    stem = _VASP.sub("", bare).strip("_.-")
    names = [path.name, bare, stem, Path(stem).stem, path.parent.name]
    return next(
        (name for name in names if name in ids),
        Path(stem).stem or str(path.parent.relative_to(folder)),
    )


def _choose(row: str, files: dict[str, list[Path]], all_electron: bool) -> tuple[Path, ...]:
    core, valence = files.pop("AECCAR0", []), files.pop("AECCAR2", [])
    files.pop("AECCAR1", None)
    pair = (
        _single(row, core) + _single(row, valence)
        if core and valence
        else _single(row, core or valence)
    )
    others = [_single(row, files[word]) for word in ("CHGCAR", "other", "CHG") if word in files]
    return next(iter([pair, *others] if all_electron and len(pair) == 2 else [*others, pair]))


def _single(row: str, files: list[Path]) -> tuple[Path, ...]:
    if len(files) > 1:
        raise InputError(
            f"row '{row}': one file is needed, found {len(files)}: {files[0]}, {files[1]}"
        )
    return tuple(files)


def _matched(found: dict[str, Source], ids: Collection[str], place: Path) -> Matched:
    sources = tuple(found[row] for row in ids if row in found)
    if not sources:
        have, want = (", ".join(list(names)[:_SHOWN]) or "none" for names in (found, ids))
        raise InputError(
            f"{place}: nothing there belongs to a row of the property table (found {have}; rows {want})"
        )
    return Matched(sources, tuple(row for row in found if row not in ids))
