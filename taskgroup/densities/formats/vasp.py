"""VASP's CHGCAR, CHG and AECCAR files: a POSCAR, then one, two or four blocks of rho times cell volume, x fastest.

A CHG file of a molecular dynamics run repeats all of it for each configuration, here called a frame.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.fields import refuse_other_fields
from taskgroup.densities.formats.numbers import read_numbers, repaired
from taskgroup.densities.formats.poscar import begins_poscar, read_poscar
from taskgroup.densities.reader import Member, Reader, bare_name, read_bytes, refuse
from taskgroup.errors import DensityError

_NAME = re.compile(r"(?<![a-z])(chgcar|chg|aeccar[012]?)(?![a-z0-9])", re.IGNORECASE)

# Numbers after the last value of a block that fill up its line: VASP writes lines of 5 or 10.
_MOST_FILLING_ZEROS = 9
# Numbers per atom after the augmentation occupancies: the start values of its magnetic moment.
_MOMENTS_PER_ATOM = 3
_SHOWN_CHARACTERS = 60


class VaspReader(Reader):
    """CHGCAR, CHG and AECCAR, compressed or not.

    Two blocks are (total, magnetisation); four, of a non-collinear run, become (total, size of the magnetisation
    vector). Augmentation occupancies serve to restart VASP and are dropped. AECCAR files are ``all-electron``.
    """

    name: ClassVar[str] = "VASP CHGCAR, CHG or AECCAR"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and _NAME.search(name) is not None

    def read(self, source: Path | Member) -> Density:
        return self._read(source, None)

    def read_frame(self, source: Path | Member, frame: int) -> Density:
        return self._read(source, frame)

    def _read(self, source: Path | Member, frame: int | None) -> Density:
        name = bare_name(source) or ""
        text = read_bytes(source)
        try:
            header, blocks = _one_frame(text, frame, source)
        except DensityError:
            mended = repaired(text)
            if mended == text:
                raise
            header, blocks = _one_frame(mended, frame, source)
        refuse_other_fields(source, name, header[:1])
        poscar = read_poscar(header, source)
        if len(blocks) == 4:
            magnetisation = np.sqrt(sum(block**2 for block in blocks[1:]))
            blocks = [blocks[0], magnetisation]
        kind = "all-electron" if "AECCAR" in name.upper() else "valence"
        values = np.stack(blocks) / poscar.volume
        return Density(
            values, poscar.lattice, poscar.species, poscar.frac_coords, kind, str(source)
        )


def _one_frame(text: bytes, frame: int | None, source: Any) -> tuple[list[str], list[np.ndarray]]:
    """Return the POSCAR lines and the blocks of one frame; without ``frame`` there must be only one."""
    file = BytesIO(text)
    header = _read_header(file, source)
    wanted = (header, _read_blocks(file, header, source))
    n_frames = 1
    while file.tell() < len(text):
        header = _read_header(file, source)
        blocks = _read_blocks(file, header, source)
        # Only one frame is kept in memory: the one asked for, or the last so far.
        if frame is not None and (frame < 0 or frame == n_frames):
            wanted = (header, blocks)
        n_frames += 1
    if frame is None and n_frames > 1:
        refuse(
            source,
            f"holds {n_frames} configurations, one is needed: say frame=0 to {n_frames - 1}, "
            "or -1 for the last (--frame)",
        )
    if frame is not None and not -1 <= frame < n_frames:
        refuse(source, f"frame must be 0 to {n_frames - 1}, or -1 for the last, found {frame}")
    return wanted


def _read_header(file: BytesIO, source: Any) -> list[str]:
    """Return the lines of the POSCAR, which ends with a blank line."""
    lines: list[str] = []
    for line in file:
        if lines and not line.strip():
            return lines
        lines.append(line.decode(errors="replace"))
    refuse(source, "must hold a grid after the structure, found the end of the file")


def _read_blocks(file: BytesIO, header: list[str], source: Any) -> list[np.ndarray]:
    """Return the blocks of a frame, [nx, ny, nz] each, in the file's unit."""
    blocks: list[np.ndarray] = []
    # Numbers after a block: zeros that fill up its line, or moments after the augmentation occupancies.
    n_loose = 0
    augmented = False
    while line := file.readline():
        words = line.split()
        if not words:
            continue
        if line.lstrip().startswith(b"augmentation occupancies"):
            _skip_augmentation(file, words, line, source)
            augmented = True
        elif len(words) == 3 and all(word.isdigit() for word in words):
            grid = tuple(map(int, words))
            blocks.append(_read_block(file, grid, blocks, source))
            n_loose = 0
            augmented = False
        elif not blocks:
            refuse(source, f"the grid must be three whole numbers, found '{_shown(line)}'")
        elif begins_poscar(_lines_from(file, line)):
            file.seek(-len(line), 1)
            break
        else:
            numbers = _loose_numbers(words, len(blocks), source)
            n_loose += len(numbers)
            if augmented:
                # As many as the header has atom lines, at most: its first lines are no atoms.
                surplus = n_loose > _MOMENTS_PER_ATOM * len(header)
            else:
                surplus = any(numbers) or n_loose > _MOST_FILLING_ZEROS
            if surplus:
                grid = " x ".join(map(str, blocks[-1].shape))
                refuse(source, f"block {len(blocks)} must hold {grid} values, found more")
    if len(blocks) not in (1, 2, 4):
        refuse(source, f"must hold 1, 2 or 4 blocks, found {len(blocks)}")
    return blocks


def _lines_from(file: BytesIO, line: bytes) -> list[bytes]:
    """Return a line and the four after it, without moving on."""
    place = file.tell()
    following = [file.readline() for _ in range(4)]
    file.seek(place)
    return [line, *following]


def _skip_augmentation(file: BytesIO, words: list[bytes], line: bytes, source: Any) -> None:
    if not words[-1].isdigit():
        refuse(source, f"augmentation occupancies must say how many, found '{_shown(line)}'")
    read_numbers(file, int(words[-1]), source)


def _read_block(
    file: BytesIO, grid: tuple[int, ...], earlier: list[np.ndarray], source: Any
) -> np.ndarray:
    if 0 in grid:
        refuse(source, f"the grid must have points along every axis, found {grid}")
    if earlier and grid != earlier[0].shape:
        first = earlier[0].shape
        refuse(source, f"all blocks must have the grid of the first, found {grid} after {first}")
    # Python's whole numbers, as 99999^3 points overflow numpy's.
    n_points = grid[0] * grid[1] * grid[2]
    values = read_numbers(file, n_points, source)
    return values.reshape(grid, order="F")


def _loose_numbers(words: list[bytes], block: int, source: Any) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        shown = _shown(b" ".join(words))
        refuse(source, f"block {block} must hold numbers only, found '{shown}'")


def _shown(line: bytes) -> str:
    return line[:_SHOWN_CHARACTERS].decode(errors="replace").strip()
