"""Gaussian cube files: values in e/Bohr^3, z fastest, on a grid of voxels.

- A voxel's edge is given, so the cell is edge times count: the convention of the periodic codes, in which the last
  point is one voxel before the cell's end. A file that repeats the first plane at the end counts that plane twice;
  the electron count gives it away.
- Positive voxel counts mean Bohr, negative ones Å, for voxels, origin and atoms; values are e/Bohr^3 either way.
- The second column of the atoms is their charge: CP2K writes the valence electrons of the pseudopotential there, other
  codes the atomic number. A sum that misses the number that this column states by at most 0.2 % is
  scaled to it, with a warning.
- Grid points start at the origin; a crystal may begin anywhere, so the atoms are shifted by minus the origin.
"""

import logging
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.electrons import is_count
from taskgroup.densities.elements import ATOMIC_NUMBERS, SYMBOLS
from taskgroup.densities.fields import refuse_other_fields
from taskgroup.densities.formats.numbers import read_numbers, repaired
from taskgroup.densities.reader import Member, Reader, bare_name, read_bytes, refuse
from taskgroup.errors import DensityError

_log = logging.getLogger(__name__)
_N_HEADER_LINES = 6
_SMALLEST_VOLUME = 1e-6
# Of the charge. A limit set by judgement between two files: one in which a code had cut off small values misses 0.15 %
# and is scaled, with a warning; one with stride 2 misses 0.8 %, which its user has to judge.
_MOST_RESCALED = 2e-3


class CubeReader(Reader):
    """Gaussian cube files of a total density, compressed or not."""

    name: ClassVar[str] = "Gaussian cube"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and name.lower().endswith((".cube", ".cub"))

    def read(self, source: Path | Member) -> Density:
        text = read_bytes(source)
        try:
            header, values = _parse(text, source)
        except DensityError:
            mended = repaired(text)
            if mended == text:
                raise
            header, values = _parse(mended, source)
        refuse_other_fields(source, bare_name(source) or "", header.comments, one_field=True)
        density = Density(
            values[None] / BOHR**3,
            header.lattice,
            header.species,
            header.frac_coords,
            "valence",
            str(source),
        )
        return _scaled(density, header.charges)


@dataclass(frozen=True)
class _Header:
    """What stands before the values: comment lines, grid, lattice [3, 3] in Å and the atoms."""

    comments: list[str]
    grid: tuple[int, int, int]
    lattice: np.ndarray
    species: tuple[str, ...]
    frac_coords: np.ndarray
    charges: np.ndarray


def _scaled(density: Density, charges: np.ndarray) -> Density:
    """Return the density with the electrons that the header's pseudopotential charges sum to, if it nearly has them."""
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in density.species])
    stated = float(charges.sum())
    are_pseudo_charges = (
        (charges > 0).all() and (charges <= numbers).all() and stated < numbers.sum()
    )
    if not are_pseudo_charges or is_count(density.charge):
        return density
    if abs(density.charge - stated) > _MOST_RESCALED * stated:
        return density
    _log.warning(
        "%s: holds %.4f electrons where its atoms state %g, scaled to these",
        density.source,
        density.charge,
        stated,
    )
    return replace(density, values=density.values * (stated / density.charge))


def _parse(text: bytes, source: Any) -> tuple[_Header, np.ndarray]:
    file = BytesIO(text)
    header = _read_header(file, source)
    return header, _read_values(file, header.grid, source)


def _read_header(file: BytesIO, source: Any) -> _Header:
    lines = [file.readline().decode(errors="replace") for _ in range(_N_HEADER_LINES)]
    try:
        n_atoms = int(lines[2].split()[0])
        origin = np.array(lines[2].split()[1:4], dtype=float)
        values_per_point = lines[2].split()[4:]
        counts = [int(line.split()[0]) for line in lines[3:]]
        voxels = np.array([line.split()[1:4] for line in lines[3:]], dtype=float)
    except (ValueError, IndexError) as error:
        refuse(source, f"must begin with a cube header, which does not parse ({error})")
    if n_atoms < 0:
        refuse(
            source, "must hold one density, found a cube of orbitals (a negative number of atoms)"
        )
    if values_per_point not in ([], ["1"]):
        shown = " ".join(values_per_point)[:20]
        refuse(source, f"must hold one density, found several values a point ({shown})")
    _check_voxels(origin, counts, voxels, source)
    atoms = _read_atoms(file, n_atoms, source)
    unit = BOHR if counts[0] > 0 else 1.0
    grid = tuple(abs(count) for count in counts)
    lattice = voxels * np.array(grid, dtype=float)[:, None] * unit
    if abs(np.linalg.det(lattice)) < _SMALLEST_VOLUME:
        refuse(source, "the voxels must span a volume, found vectors in one plane")
    positions = (atoms[:, 2:] - origin) * unit
    frac_coords = positions @ np.linalg.inv(lattice)
    species = _symbols(atoms, source)
    return _Header(lines[:2], grid, lattice, species, frac_coords, charges=atoms[:, 1])


def _check_voxels(origin: np.ndarray, counts: list[int], voxels: np.ndarray, source: Any) -> None:
    if voxels.shape != (3, 3) or origin.shape != (3,):
        refuse(source, "origin and voxel edges must have three numbers each")
    if not (np.isfinite(voxels).all() and np.isfinite(origin).all()):
        refuse(source, "origin and voxel edges must be finite numbers")
    signs = {count > 0 for count in counts}
    if 0 in counts or len(signs) > 1:
        refuse(
            source, f"voxel counts must be all positive (Bohr) or all negative (Å), found {counts}"
        )


def _read_atoms(file: BytesIO, n_atoms: int, source: Any) -> np.ndarray:
    """Return the rows of the atoms, [n, 5]: number, charge, position."""
    # Five digits and five spaces a row: a header that promises more is refused before memory is taken for it.
    most = (file.getbuffer().nbytes - file.tell()) // 10 + 1
    if not 0 < n_atoms <= most:
        refuse(
            source,
            f"must list {n_atoms} atoms (at least one) with 5 numbers each, found room for {most}",
        )
    rows = [file.readline().split() for _ in range(n_atoms)]
    try:
        atoms = np.array(rows, dtype=float)
    except ValueError as error:
        refuse(source, f"must begin with a cube header, which does not parse ({error})")
    if not np.isfinite(atoms).all():
        refuse(source, "charges and positions of atoms must be finite numbers")
    if atoms.shape != (n_atoms, 5):
        refuse(source, f"must list {n_atoms} atoms with 5 numbers each, found {list(atoms.shape)}")
    return atoms


def _symbols(atoms: np.ndarray, source: Any) -> tuple[str, ...]:
    symbols = []
    for number in atoms[:, 0]:
        if number not in range(1, len(SYMBOLS) + 1):
            refuse(
                source,
                f"atoms must have atomic numbers 1 to {len(SYMBOLS)}, found {number:g} (0 is a ghost or dummy atom)",
            )
        symbols.append(SYMBOLS[int(number) - 1])
    return tuple(symbols)


def _read_values(file: BytesIO, grid: tuple[int, int, int], source: Any) -> np.ndarray:
    # Python's whole numbers, as a damaged count may overflow numpy's.
    n_points = grid[0] * grid[1] * grid[2]
    start = file.tell()
    try:
        values = read_numbers(file, n_points, source)
    except DensityError as error:
        _refuse_values(file, start, grid, source, error)
    if file.read().strip():
        _refuse_values(file, start, grid, source)
    return values.reshape(grid)


def _refuse_values(
    file: BytesIO,
    start: int,
    grid: tuple[int, int, int],
    source: Any,
    cause: DensityError | None = None,
) -> None:
    """Refuse a wrong number of values: name a word that is none, or the grid that the number belongs to."""
    words = file.getvalue()[start:].split()
    for word in words:
        if not _is_number(word):
            if b"**" in word:
                break
            shown = word[:30].decode(errors="replace")
            refuse(source, f"values must be numbers, found '{shown}'")
    if cause is not None and any(b"**" in word for word in words):
        raise cause
    size = " x ".join(map(str, grid))
    planes = _other_planes(len(words), grid)
    refuse(
        source,
        f"must hold {size} values, found {len(words)}: {planes or 'truncated, or a wrong grid'}",
    )


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _other_planes(n_values: int, grid: tuple[int, int, int]) -> str | None:
    """Return which planes are missing or repeated, if a number of values is that of a grid with other planes."""
    for change, meaning in (
        (1, "the first planes are repeated at the end"),
        (-1, "the last planes are missing"),
    ):
        for axes in ((0, 1, 2), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
            n_points = 1
            for axis, points in enumerate(grid):
                n_points *= points + change if axis in axes else points
            if n_points == n_values:
                names = ", ".join("abc"[axis] for axis in axes)
                return f"{meaning} along {names}; write points at i/N, the end not included"
    return None
