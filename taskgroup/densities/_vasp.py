"""VASP's CHGCAR, CHG and AECCAR files: a POSCAR, then one, two or four blocks of rho times cell volume, x fastest."""

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.reader import Reader, bare_name, one_line, read_bytes, refuse
from taskgroup.errors import DensityError

_NAME = re.compile(r"(?<![a-z])(chgcar|chg|aeccar[012]?)(?![a-z0-9])", re.IGNORECASE)
_NO_E = re.compile(rb"(\d)([-+]\d{3})\b")  # Fortran leaves out the E of exponents with three digits
_HEADER_ERRORS = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    np.linalg.LinAlgError,
)


class VaspReader(Reader):
    """CHGCAR, CHG and AECCAR, compressed or not.

    Two blocks are (total, magnetisation); four, of a non-collinear run, become (total, size of the magnetisation
    vector). Augmentation occupancies serve to restart VASP and are dropped. AECCAR files are ``all-electron``.
    """

    name: ClassVar[str] = "VASP CHGCAR, CHG or AECCAR"

    def suits(self, source: Any) -> bool:
        return isinstance(source, Path) and _NAME.search(bare_name(source)) is not None

    def read(self, source: Path) -> Density:
        text = read_bytes(source)
        header, body = _split(text, source)
        structure = _structure(header, source)
        try:
            blocks = _blocks(body, len(structure), source)
        except DensityError:
            if not _NO_E.search(body):
                raise
            blocks = _blocks(_NO_E.sub(rb"\1E\2", body), len(structure), source)
        if len(blocks) == 4:
            blocks = [blocks[0], np.sqrt(sum(block**2 for block in blocks[1:]))]
        kind = "all-electron" if "AECCAR" in bare_name(source).upper() else "valence"
        species = tuple(site.specie.symbol for site in structure)
        values = np.stack(blocks) / structure.volume
        return Density(
            values, structure.lattice.matrix, species, structure.frac_coords, kind, str(source)
        )


def _split(text: bytes, source: Path) -> tuple[list[str], bytes]:
    """The lines of the POSCAR, and what follows the blank line after it."""
    lines: list[str] = []
    file = BytesIO(text)
    for line in file:
        if lines and not line.strip():
            return lines, text[file.tell() :]
        lines.append(line.decode(errors="replace"))
    refuse(source, "must hold a grid after the structure, found the end of the file")


def _structure(header: list[str], source: Path) -> Any:
    """The pymatgen structure of the POSCAR. VASP writes neither a negative scale nor left-handed vectors."""
    from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", BadPoscarWarning)
            structure = Poscar.from_str("".join(header)).structure
        scale = float(header[1].split()[0])
    except BadPoscarWarning as warning:
        refuse(source, f"must name its elements ({one_line(warning)})")
    except _HEADER_ERRORS as error:
        refuse(source, f"must begin with a POSCAR, which does not parse ({one_line(error)})")
    if scale < 0:
        refuse(source, f"the scale of the lattice must be positive, found {scale:g}")
    volume = np.linalg.det(structure.lattice.matrix)
    if abs(volume) < 1e-6:
        refuse(source, "the lattice must span a volume, found vectors in one plane")
    if volume < 0:
        refuse(
            source,
            f"the lattice vectors must span a positive volume (right-handed), found {volume:.4g} Å^3",
        )
    return structure


def _blocks(body: bytes, n_atoms: int, source: Path) -> list[np.ndarray]:
    """The blocks of the file, [nx, ny, nz] each, in the file's unit."""
    blocks: list[np.ndarray] = []
    loose: list[
        float
    ] = []  # what stands after a block: zeros that fill up its line, or moments after the augmentation
    augmented = False
    file = BytesIO(body)
    for line in file:
        words = line.split()
        if not words:
            continue
        if line.lstrip().startswith(b"augmentation occupancies"):
            if not words[-1].isdigit():
                refuse(source, f"augmentation occupancies must say how many, found '{_text(line)}'")
            _numbers(file, int(words[-1]), source, body)
            augmented = True
        elif len(words) == 3 and all(word.isdigit() for word in words):
            blocks.append(_block(file, tuple(map(int, words)), blocks, source, body))
            loose, augmented = [], False
        elif not blocks:
            refuse(source, f"the grid must be three whole numbers, found '{_text(line)}'")
        else:
            loose += _floats(words, len(blocks), source)
            if len(loose) > 3 * n_atoms if augmented else any(loose) or len(loose) > 9:
                grid = " x ".join(map(str, blocks[-1].shape))
                refuse(source, f"block {len(blocks)} must hold {grid} values, found more")
    if len(blocks) not in (1, 2, 4):
        refuse(source, f"must hold 1, 2 or 4 blocks, found {len(blocks)}")
    return blocks


def _block(
    file: BytesIO, grid: tuple[int, ...], before: list[np.ndarray], source: Path, body: bytes
) -> np.ndarray:
    if 0 in grid:
        refuse(source, f"the grid must have points along every axis, found {grid}")
    if before and grid != before[0].shape:
        refuse(
            source,
            f"all blocks must have the grid of the first, found {grid} after {before[0].shape}",
        )
    values = _numbers(file, int(np.prod(grid, dtype=object)), source, body)
    return values.reshape(grid, order="F")


def _numbers(file: BytesIO, wanted: int, source: Path, body: bytes) -> np.ndarray:
    from pymatgen.optimization.fast_parser import parse_n_doubles

    if (
        2 * wanted > len(body) + 1
    ):  # a digit and a space each: refused before memory is taken for it
        refuse(
            source,
            f"must hold {wanted} values, found at most {len(body) // 2}: truncated, or a wrong grid",
        )
    values = np.empty(wanted)
    found = parse_n_doubles(file, values, wanted)
    if found != wanted:
        refuse(
            source, f"must hold {wanted} values, found {found}: truncated, damaged, or a wrong grid"
        )
    return values


def _floats(words: list[bytes], block: int, source: Path) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        refuse(source, f"block {block} must hold numbers only, found '{_text(b' '.join(words))}'")


def _text(line: bytes) -> str:
    return line[:60].decode(errors="replace").strip()
