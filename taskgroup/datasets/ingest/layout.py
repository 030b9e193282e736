"""Places of files: which row a path speaks of, in the folders that people and workflow programs make."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskgroup.densities import archive_stem
from taskgroup.densities.compression import bare_name
from taskgroup.errors import ConfigError

_VASP_WORD = re.compile(r"(?:^|[_.\-])(AECCAR[012]|CHGCAR|CHG|POSCAR|CONTCAR)(?=$|[_.\-])")
# Steps of a workflow whose density is meant, best first; a relaxation's density belongs to a cell that then moved.
_STEPS = (
    r"static", r"(?<!n)scf", r"single.?point", r"final", r"ground.?state", r"relax2", r"relax", r"opt", r"geo",
    r"nscf|band|dos",
)  # fmt: skip
_STEP_AT_END = re.compile(rf"[-_.]+(?:{'|'.join(_STEPS)})\d*$", re.IGNORECASE)
# A path that names no step stands between those that are meant and those that are not.
_UNNAMED_STEP = _STEPS.index("relax2")
# AiiDA keeps a node's files in ab/cd/ef..., the three parts of its UUID
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")


@dataclass(frozen=True)
class Claim:
    """Claim of a file to a row.

    ``level``: 0 where the file's own name or path is the id, else how many folders above it the id stands.
    ``rank``: step of a workflow, 0 is best. ``word``: VASP's name of the file, or ``other``. ``label``: what else its
    name says. ``folder``: its folder below the one with the id. ``place``: pattern of the path where that was guessed.
    """

    path: Path
    row_id: str
    level: int
    rank: int
    word: str
    label: str
    folder: str
    place: str = ""


class Match:
    """A pattern such as ``{id}/static`` for the folder, or the path, of each file; ``*`` stands for any name.

    Raises ConfigError: it has no ``{id}``, or more than one.
    """

    def __init__(self, pattern: str) -> None:
        if pattern.count("{id}") != 1:
            raise ConfigError(
                f"match: must have {{id}} once, as in '{{id}}/static', found '{pattern}'"
            )
        before, after = pattern.strip("/").split("{id}")
        body = f"{_glob(before)}(?P<id>[^/]+){_glob(after)}"
        self._regex = re.compile(f"(?:.*/)?{body}")

    def row_id(self, relative: PurePosixPath) -> str | None:
        """Return the id in the path of a file, or None where it does not match."""
        bare = relative.with_name(bare_name(relative.name))
        for text in (str(relative.parent), str(relative), str(bare)):
            match = self._regex.fullmatch(text)
            if match is not None:
                return match["id"]
        return None


def _glob(text: str) -> str:
    return "[^/]*".join(re.escape(piece) for piece in text.split("*"))


def claim_of(path: Path, root: Path, ids: Collection[str], match: Match | None) -> Claim:
    """Return the claim of a file to a row; its ``row_id`` is no row where it belongs to none."""
    # Texts in place of paths: a folder may hold 100,000 files.
    relative = str(path)[len(str(root)) :].lstrip("/")
    *folders, file_name = relative.split("/")
    bare = bare_name(file_name)
    vasp_word = _VASP_WORD.search(bare)
    stem = _VASP_WORD.sub("", bare).strip("_.-")
    # cube, cif and the like are no part of a name
    plain_stem = stem.rpartition(".")[0] or stem
    label = stem if vasp_word else plain_stem
    word = vasp_word[1] if vasp_word else "other"

    def claim(row_id: str, level: int, folder: str, place: str = "") -> Claim:
        rank = _rank([*folders, label], row_id)
        return Claim(path, row_id, level, rank, word, label, folder, place)

    folder = "/".join(folders)
    if match is not None:
        row_id = match.row_id(PurePosixPath(relative))
        return claim(row_id if row_id in ids else relative, 0, "")
    in_folder = f"{folder}/{bare}" if folder else bare
    for name in (file_name, bare, stem, plain_stem, relative, in_folder, folder):
        if name in ids:
            return claim(name, 0, folder)
    for text in (stem, plain_stem):
        name = _without_step(text)
        if name in ids:
            return claim(name, 0, folder, text.replace(name, "{id}", 1))
    for level, folder_name in enumerate(reversed(folders), start=1):
        name = folder_name if folder_name in ids else archive_stem(folder_name)
        if name not in ids:
            name = _without_step(name)
        if name in ids:
            below = folders[len(folders) - level + 1 :]
            named = folder_name.replace(name, "{id}", 1)
            place = "/".join((named, *below)) if below or named != "{id}" else ""
            return claim(name, level, "/".join(below), place)
    uuid = _uuid_of(folders, ids)
    if uuid is not None:
        name, below = uuid
        return claim(name, 1 + len(below), "/".join(below), "AiiDA's folders ab/cd/ef...")
    return claim(plain_stem or folder, 0, "")


def _rank(steps: Sequence[str], row_id: str) -> int:
    """Return the best step that a path names beside the id."""
    text = " ".join(step for step in steps if step != row_id).lower()
    if not text:
        return _UNNAMED_STEP
    for rank, step in enumerate(_STEPS):
        if re.search(step, text):
            return rank
    return _UNNAMED_STEP


def _without_step(name: str) -> str:
    """Return a name without the step of a workflow at its end.

    >>> _without_step("mp-1-static"), _without_step("mp-1_relax2"), _without_step("mp-1")
    ('mp-1', 'mp-1', 'mp-1')
    """
    return _STEP_AT_END.sub("", name)


def _uuid_of(folders: Sequence[str], ids: Collection[str]) -> tuple[str, Sequence[str]] | None:
    """Return the id that three nested folders spell, as in AiiDA's file repository, and the folders below them."""
    for start in range(len(folders) - 2):
        text = "".join(folders[start : start + 3])
        if _UUID.fullmatch(text) is not None and text in ids:
            return text, folders[start + 3 :]
    return None
