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


def read_structure(path: str | Path) -> "Structure":
    """The structure in any file that pymatgen reads (CIF, POSCAR, JSON, XSF, ...). Raises DensityError."""
    from pymatgen.core.structure import Structure, StructureError

    if not Path(path).is_file():
        raise DensityError(f"{path}: no such file")
    try:
        return Structure.from_file(str(path))
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OSError,
        AssertionError,
        StructureError,
    ) as error:
        raise DensityError(
            f"{path}: must hold a structure that pymatgen reads, found none ({one_line(error)})"
        ) from None


def read_structures(path: str | Path) -> Iterator[tuple[str, "Structure"]]:
    """(id, structure) for each line of a .jsonl or .jsonl.gz file, one at a time.

    A line is an object with ``material_id`` or ``id``, ``lattice`` (3 x 3, rows are vectors, Å), ``species`` and
    ``frac_coords``. Raises DensityError, which names the line, where one is damaged.
    """
    for name, line, where in structure_lines(path):
        yield name, structure_of_line(line, where)


def structure_lines(path: str | Path) -> Iterator[tuple[str, str, str]]:
    """(id, line, where it stands) for each line of such a file; cheap, as no structure is made. Raises DensityError."""
    path = Path(path)
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield _record(line, where)[0], line.strip(), where
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DensityError(f"{path}: cannot be read ({error})") from None


def structure_of_line(line: str, where: str) -> "Structure":
    """The structure that a line describes; ``where`` names it in errors. Raises DensityError."""
    from pymatgen.core.structure import Structure, StructureError

    row = _record(line, where)[1]
    try:
        return Structure(*(row[key] for key in _KEYS))
    except (ValueError, TypeError, KeyError, StructureError) as error:
        raise DensityError(f"{where}: must describe a crystal ({one_line(error)})") from None


def _record(line: str, where: str) -> tuple[str, dict[str, Any]]:
    """The id of a line and all it says."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DensityError(f"{where}: must be one JSON object ({error})") from None
    name = row.get("material_id", row.get("id")) if isinstance(row, dict) else None
    missing = [key for key in _KEYS if key not in row] if isinstance(row, dict) else list(_KEYS)
    if name is None or missing:
        needed = [*missing, *(["material_id or id"] if name is None else [])]
        raise DensityError(f"{where}: must have the keys {', '.join(needed)}, found none")
    return str(name), row
