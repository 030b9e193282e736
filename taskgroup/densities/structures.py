"""Structures, from which promolecular densities are made where no DFT density is at hand."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.densities.reader import one_line
from taskgroup.errors import DensityError

if TYPE_CHECKING:
    from pymatgen.core import Structure

_KEYS = ("lattice", "species", "frac_coords")
# What pymatgen's parsers raise on files that hold no structure. StructureError joins them once it is imported.
_PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_structure(path: str | Path) -> "Structure":
    """Return the structure in any file that pymatgen reads (CIF, POSCAR, JSON, XSF, ...). Raises DensityError."""
    from pymatgen.core.structure import Structure, StructureError

    if not Path(path).is_file():
        raise DensityError(f"{path}: no such file")
    try:
        return Structure.from_file(str(path))
    except (*_PARSE_ERRORS, StructureError) as error:
        raise DensityError(
            f"{path}: must hold a structure that pymatgen reads, found none ({one_line(error)})"
        ) from None


def read_structures(path: str | Path) -> Iterator[tuple[str, "Structure"]]:
    """Yield (id, structure) for each line of a .jsonl or .jsonl.gz file, one at a time.

    A line is an object with ``material_id`` or ``id``, ``lattice`` (3 x 3, rows are vectors, Å), ``species`` and
    ``frac_coords``. Raises DensityError, which names the line, where one is damaged.
    """
    for name, line, where in structure_lines(path):
        yield name, structure_of_line(line, where)


def structure_lines(path: str | Path) -> Iterator[tuple[str, str, str]]:
    """Yield (id, line, place of the line) of such a file; cheap, as no structure is made. Raises DensityError."""
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                name, _ = _record(line, where)
                yield name, line.strip(), where
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DensityError(f"{path}: cannot be read ({error})") from None


def structure_of_line(line: str, where: str) -> "Structure":
    """Return the structure that a line describes; ``where`` names the line in errors. Raises DensityError."""
    from pymatgen.core.structure import Structure, StructureError

    _, row = _record(line, where)
    try:
        return Structure(row["lattice"], row["species"], row["frac_coords"])
    except (*_PARSE_ERRORS, StructureError) as error:
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
