"""Structures, from which promolecular densities are made where no DFT density is at hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from taskgroup.densities.compression import damage_errors, damaged, open_plain
from taskgroup.densities.reader import one_line
from taskgroup.errors import DensityError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Bytes: 100,000 atoms.
_LONGEST_LINE = 16 * 1024**2
_KEYS = ("lattice", "species", "frac_coords")


def read_structure(path: str | Path) -> "Structure":
    """Return the structure in any file that pymatgen reads (CIF, POSCAR, JSON, XSF, ...). Raises DensityError."""
    from pymatgen.core import Structure

    if not Path(path).is_file():
        raise DensityError(f"{path}: no such file")
    try:
        return Structure.from_file(str(path))
    # pymatgen's parsers raise many kinds, also of Python's own parser
    except Exception as error:  # noqa: BLE001
        raise DensityError(
            f"{path}: must hold a structure that pymatgen reads, found none ({one_line(error)})"
        ) from None


def read_structures(path: str | Path) -> Iterator[tuple[str, "Structure"]]:
    """Yield (id, structure) for each line of a .jsonl file, compressed or not, one at a time.

    A line is an object with ``material_id`` or ``id``, ``lattice`` (3 x 3, rows are vectors, Å), ``species`` and
    ``frac_coords``. Raises DensityError, which names the line, where one is damaged.
    """
    for line in structure_lines(path):
        if isinstance(line, DensityError):
            raise line
        yield line.id, structure_of_line(line.text, line.place)


class StructureLine(NamedTuple):
    """A line that describes a structure: the id in it, its text, and where it stands."""

    id: str
    text: str
    place: str


def structure_lines(path: str | Path) -> Iterator[StructureLine | DensityError]:
    """Yield the lines of such a file, an error in place of each damaged one; cheap, as no structure is made.

    Raises DensityError where the file itself cannot be read.
    """
    path = Path(path)
    with open_plain(path) as stream:
        number = 0
        while line := _next_line(stream, path):
            number += 1
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                name, _ = _record(text, where)
            except UnicodeDecodeError as error:
                yield DensityError(f"{where}: must be text in UTF-8 ({error.reason})")
            except DensityError as error:
                yield error
            else:
                yield StructureLine(name, text, where)


def _next_line(stream: IO[bytes], path: Path) -> bytes:
    try:
        line = stream.readline(_LONGEST_LINE)
    except damage_errors() as error:
        raise damaged(str(path), error) from None
    if len(line) == _LONGEST_LINE:
        raise DensityError(f"{path}: a line must have at most {_LONGEST_LINE} bytes, found more")
    return line


def structure_of_line(line: str, where: str) -> "Structure":
    """Return the structure that a line describes; ``where`` names the line in errors. Raises DensityError."""
    from pymatgen.core import Structure

    _, row = _record(line, where)
    try:
        return Structure(row["lattice"], row["species"], row["frac_coords"])
    # pymatgen's parsers raise many kinds, also of Python's own parser
    except Exception as error:  # noqa: BLE001
        raise DensityError(f"{where}: must describe a crystal ({one_line(error)})") from None


def _record(line: str, where: str) -> tuple[str, dict[str, Any]]:
    """Return the id of a line and its whole record."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DensityError(f"{where}: must be one JSON object ({one_line(error)})") from None
    if not isinstance(row, dict):
        row = {}
    name = row.get("material_id", row.get("id"))
    missing = [key for key in _KEYS if key not in row]
    if name is None:
        missing.append("material_id or id")
    if missing:
        raise DensityError(f"{where}: must have the keys {', '.join(missing)}, found none")
    return str(name), row
