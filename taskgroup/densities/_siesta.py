"""Siesta's .RHO files, read by sisl: electrons/Bohr^3 in single precision, spin up and down apart, without atoms.

The atoms are those of the file beside it that Siesta writes in each run: ``LABEL.XV``, or ``LABEL.STRUCT_OUT``.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities.archives import read_member
from taskgroup.densities.density import Density
from taskgroup.densities.elements import SYMBOLS
from taskgroup.densities.reader import (
    Member,
    Reader,
    bare_name,
    local_file,
    one_line,
    read_content,
    refuse,
)
from taskgroup.errors import DensityError, MissingDependency

_ATOM_FILES = (".XV", ".STRUCT_OUT")
_HEADER = struct.Struct("<i9dii4ii")
_CELL_BYTES, _MESH_BYTES = 72, 16
# Å.
_SAME_LATTICE = 1e-3


class SiestaReader(Reader):
    """``LABEL.RHO`` beside its ``LABEL.XV`` or ``LABEL.STRUCT_OUT``."""

    name: ClassVar[str] = "Siesta RHO"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and name.endswith(".RHO")

    def read(self, source: Path | Member) -> Density:
        try:
            import sisl
        except ImportError:
            raise MissingDependency(
                f"{source}: reading Siesta's files needs a package: pip install 'taskgroup-materials[siesta]'"
            ) from None
        blocks, lattice = _grid(source, sisl)
        geometry = _geometry(source, sisl)
        if not np.allclose(geometry.cell, lattice, atol=_SAME_LATTICE):
            refuse(source, "the file of the atoms beside it must have the same cell, found another")
        numbers = [int(number) for number in geometry.atoms.Z]
        if not all(1 <= number <= len(SYMBOLS) for number in numbers):
            refuse(source, f"atoms must have atomic numbers 1 to {len(SYMBOLS)}, found {numbers}")
        species = tuple(SYMBOLS[number - 1] for number in numbers)
        return Density(blocks, lattice, species, geometry.fxyz, "valence", str(source))


def _grid(source: Path | Member, sisl: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (total) or (total, magnetisation) in e/Å^3, and the lattice in Å."""
    with local_file(source) as path:
        n_components = _check_header(path, source)
        # sisl takes the unit from the ending
        with _named(path, "density.RHO") as rho, sisl.get_sile(rho) as file:
            parts = [file.read_grid(index=number) for number in range(n_components)]
    grids = [np.asarray(part.grid, dtype=float) for part in parts]
    lattice = np.asarray(parts[0].lattice.cell)
    if n_components == 1:
        return np.stack(grids), lattice
    up, down, *mixed = grids
    magnetisation = up - down
    if mixed:
        magnetisation = np.sqrt(magnetisation**2 + 4 * sum(part**2 for part in mixed))
    return np.stack([up + down, magnetisation]), lattice


def _check_header(path: Path, source: Any) -> int:
    """Return the number of spin components; refuse a file that does not hold the grid of its header."""
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size:
        refuse(source, f"must begin with a header of {_HEADER.size} bytes, found {len(start)}")
    first, *_, last, before, nx, ny, nz, n_components, after = _HEADER.unpack(start)
    if (first, last, before, after) != (_CELL_BYTES, _CELL_BYTES, _MESH_BYTES, _MESH_BYTES):
        refuse(source, "must be a binary grid of Siesta, found other records")
    if min(nx, ny, nz) < 1 or n_components not in (1, 2, 4):
        refuse(
            source, f"must hold a grid of 1, 2 or 4 components, found {nx, ny, nz, n_components}"
        )
    # One record a row of x: 4 bytes a value, and its length before and behind it.
    wanted = _HEADER.size + n_components * nz * ny * (4 * nx + 8)
    found = path.stat().st_size
    if found != wanted:
        refuse(
            source, f"must hold {wanted} bytes for its grid, found {found}: truncated or damaged"
        )
    return n_components


def _geometry(source: Path | Member, sisl: Any) -> Any:
    for suffix in _ATOM_FILES:
        content = _beside(source, suffix)
        if content is None:
            continue
        _check_atom_lines(content, suffix, source)
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"atoms{suffix}"
            path.write_bytes(content)
            try:
                return sisl.get_sile(path).read_geometry()
            # sisl raises many kinds on a damaged file
            except Exception as error:  # noqa: BLE001
                refuse(source, f"the {suffix} file beside it does not parse ({one_line(error)})")
    refuse(source, f"has no atoms: needs a file {' or '.join(_ATOM_FILES)} of this run beside it")


def _check_atom_lines(content: bytes, suffix: str, source: Any) -> None:
    """Refuse a number of atoms that the file cannot hold, before memory is taken for it."""
    lines = content.splitlines()
    # Both formats begin with three lattice vectors; then the number of atoms, and a line for each.
    words = lines[3].split() if len(lines) > 3 else []
    if not words or not words[0].isdigit() or not 0 < int(words[0]) <= len(lines) - 4:
        shown = b" ".join(words).decode(errors="replace")[:30]
        refuse(
            source,
            f"the {suffix} file beside it must list its atoms, found '{shown}' and {len(lines)} lines",
        )


def _beside(source: Path | Member, suffix: str) -> bytes | None:
    """Return the content of the file with another ending beside a source; None where there is none."""
    stem = (bare_name(source) or "").removesuffix(".RHO")
    if isinstance(source, Path):
        path = source.with_name(stem + suffix)
        return read_content(path) if path.is_file() else None
    name = str(PurePosixPath(source.name).with_name(stem + suffix))
    archive = Path(source.archive)
    try:
        return read_content(read_member(archive / name, archive))
    except DensityError:
        return None


@contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """Give a file another name, without a copy."""
    with TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(path.resolve())
        yield link
