"""Siesta's .RHO files: electrons/Bohr^3 in single precision, spin up and down apart, without atoms.

The atoms are those of the file beside it that Siesta writes in each run: ``LABEL.XV``, or ``LABEL.STRUCT_OUT``. sisl
reads these files too, but hangs for ever where a record in the middle is damaged; the tests compare.
"""

import struct
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.archives import read_member
from taskgroup.densities.density import Density
from taskgroup.densities.elements import SYMBOLS
from taskgroup.densities.reader import Member, Reader, bare_name, one_line, read_content, refuse
from taskgroup.errors import DensityError

_ATOM_FILES = (".XV", ".STRUCT_OUT")
# Fortran's records have their length before and behind them: lattice [3, 3], grid and number of spin components.
_HEADER = struct.Struct("<i9dii4ii")
_LATTICE_BYTES, _GRID_BYTES = 72, 16
_N_LATTICE_LINES = 3
# Å.
_SAME_LATTICE = 1e-3


class _Atoms(NamedTuple):
    """Lattice [3, 3] in Å, element symbols, fractional coordinates [atoms, 3]."""

    lattice: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray


class SiestaReader(Reader):
    """``LABEL.RHO`` beside its ``LABEL.XV`` or ``LABEL.STRUCT_OUT``."""

    name: ClassVar[str] = "Siesta RHO"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and name.endswith(".RHO")

    def read(self, source: Path | Member) -> Density:
        lattice, components = _read_grid(read_content(source), source)
        atoms = _read_atoms(source)
        if not np.allclose(atoms.lattice, lattice, atol=_SAME_LATTICE):
            refuse(source, "the file of the atoms beside it must have the same cell, found another")
        values = _total_and_magnetisation(components)
        return Density(values, lattice, atoms.species, atoms.frac_coords, "valence", str(source))


def _read_grid(content: bytes, source: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the lattice in Å and the spin components [1, 2 or 4, nx, ny, nz] in e/Å^3."""
    if len(content) < _HEADER.size:
        refuse(source, f"must begin with a header of {_HEADER.size} bytes, found {len(content)}")
    first, *lattice, last, before, nx, ny, nz, n_components, after = _HEADER.unpack_from(content)
    markers = (first, last, before, after)
    if markers != (_LATTICE_BYTES, _LATTICE_BYTES, _GRID_BYTES, _GRID_BYTES):
        refuse(source, "must be a binary grid of Siesta, found other records")
    if min(nx, ny, nz) < 1 or n_components not in (1, 2, 4):
        refuse(
            source, f"must hold a grid of 1, 2 or 4 components, found {nx, ny, nz, n_components}"
        )
    # One record a row of x: 4 bytes a value, and its length before and behind it.
    n_rows = n_components * nz * ny
    wanted = _HEADER.size + n_rows * (4 * nx + 8)
    if len(content) != wanted:
        refuse(
            source,
            f"must hold {wanted} bytes for its grid, found {len(content)}: truncated or damaged",
        )
    records = np.frombuffer(content, "<i4", offset=_HEADER.size).reshape(n_rows, nx + 2)
    if (records[:, [0, -1]] != 4 * nx).any():
        refuse(source, "each row of its grid must be a record of its own, found others: damaged")
    rows = records[:, 1:-1].copy().view("<f4").astype(float)
    components = rows.reshape(n_components, nz, ny, nx).transpose(0, 3, 2, 1)
    return np.array(lattice).reshape(3, 3) * BOHR, components / BOHR**3


def _total_and_magnetisation(components: np.ndarray) -> np.ndarray:
    """Return what up and down, and the mixed parts of a non-collinear run, amount to."""
    if len(components) == 1:
        return components
    up, down, *mixed = components
    magnetisation = up - down
    if mixed:
        squares = sum(part**2 for part in mixed)
        magnetisation = np.sqrt(magnetisation**2 + 4 * squares)
    return np.stack([up + down, magnetisation])


def _read_atoms(source: Path | Member) -> _Atoms:
    for suffix in _ATOM_FILES:
        content = _beside(source, suffix)
        if content is None:
            continue
        try:
            return _parse_atoms(content.decode(), in_bohr=suffix == ".XV")
        except (ValueError, IndexError, np.linalg.LinAlgError) as error:
            refuse(source, f"the {suffix} file beside it must list its atoms ({one_line(error)})")
    refuse(source, f"has no atoms: needs a file {' or '.join(_ATOM_FILES)} of this run beside it")


def _parse_atoms(text: str, in_bohr: bool) -> _Atoms:
    """Read three lattice vectors, the number of atoms, and for each its species, atomic number and place.

    ``in_bohr``: XV has all in Bohr and Cartesian, STRUCT_OUT vectors in Å and fractional places. Raises ValueError or
    IndexError where it is damaged.
    """
    lines = text.splitlines()
    vectors = [_three_floats(line.split()) for line in lines[:_N_LATTICE_LINES]]
    lattice = np.array(vectors)
    n_atoms = int(lines[_N_LATTICE_LINES].split()[0])
    rows = [line.split() for line in lines[_N_LATTICE_LINES + 1 :][: max(n_atoms, 0)]]
    if not rows or len(rows) != n_atoms:
        raise ValueError(f"{n_atoms} atoms are promised, {len(rows)} are there")
    numbers = [int(row[1]) for row in rows]
    if not all(1 <= number <= len(SYMBOLS) for number in numbers):
        raise ValueError(f"atomic numbers must be 1 to {len(SYMBOLS)}, found {numbers[:5]}")
    places = np.array([_three_floats(row[2:]) for row in rows])
    if in_bohr:
        places = places @ np.linalg.inv(lattice)
        lattice = lattice * BOHR
    return _Atoms(lattice, tuple(SYMBOLS[number - 1] for number in numbers), places)


def _three_floats(words: Sequence[str]) -> list[float]:
    numbers = [float(word) for word in words[:3]]
    if len(numbers) != 3:
        raise ValueError(f"three numbers are needed, found '{' '.join(words)[:60]}'")
    return numbers


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
