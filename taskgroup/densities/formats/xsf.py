"""XCrySDen's XSF files with a DATAGRID_3D, read by pymatgen.

Two traps: the grid holds both ends of each vector, so its last planes must repeat the first and are dropped; and the
format has no unit. Quantum ESPRESSO, Siesta and ABINIT write e/Bohr^3, VESTA what it was given: the values are taken as
e/Bohr^3 unless only e/Å^3 gives a whole number of electrons.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.electrons import is_count
from taskgroup.densities.fields import refuse_other_fields
from taskgroup.densities.promolecule import crystal_parts
from taskgroup.densities.reader import MarkedReader, Member, bare_name, one_line, read_bytes, refuse

# Of the largest value: the digits of the file.
_SAME_PLANE = 1e-4
# Å.
_SAME_VECTOR = 1e-3
_PARSE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


class XsfReader(MarkedReader):
    """XSF files of a crystal with one three-dimensional grid over its primitive cell."""

    name: ClassVar[str] = "XCrySDen XSF with a grid"
    suffix: ClassVar[str] = ".xsf"
    mark: ClassVar[bytes] = b"BEGIN_BLOCK_DATAGRID_3D"
    # The grid stands after the atoms: a megabyte holds 10,000 of them.
    start_bytes: ClassVar[int] = 2**20

    def read(self, source: Path | Member) -> Density:
        from pymatgen.io.xcrysden import XSF

        text = read_bytes(source).decode(errors="replace")
        _check_size(text, source)
        try:
            xsf = XSF.from_str(text)
        except _PARSE_ERRORS as error:
            refuse(source, f"must be an XSF file, which does not parse ({one_line(error)})")
        grid, comments = _only_grid(xsf, source)
        refuse_other_fields(source, bare_name(source) or "", comments, one_field=True)
        if xsf.structure is None or not hasattr(xsf.structure, "lattice"):
            refuse(source, "must hold a crystal (PRIMVEC and PRIMCOORD) beside the grid")
        lattice, species, frac_coords = crystal_parts(xsf.structure, str(source))
        if np.abs(grid.lattice - lattice).max() > _SAME_VECTOR:
            refuse(source, "the grid must span the primitive cell (PRIMVEC), found other vectors")
        values = _without_last_planes(np.asarray(grid.data[0], dtype=float), source)
        shift = np.asarray(grid.origin) @ np.linalg.inv(lattice)
        density = Density(
            values[None] / BOHR**3, lattice, species, frac_coords - shift, "valence", str(source)
        )
        return _in_the_fitting_unit(density)


def _check_size(text: str, source: Any) -> None:
    """Refuse counts that promise more than the file holds, before pymatgen takes memory for it."""
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip().startswith("BEGIN_DATAGRID_3D"):
            continue
        words = next(lines, "").split()
        if len(words) != 3 or not all(word.isdigit() for word in words):
            refuse(source, f"the grid must be three whole numbers, found '{' '.join(words)[:60]}'")
        n_points = int(words[0]) * int(words[1]) * int(words[2])
        if not 0 < 2 * n_points <= len(text) + 1:
            refuse(source, f"must hold {n_points} values, found at most {len(text) // 2}")


def _only_grid(xsf: Any, source: Any) -> tuple[Any, list[str]]:
    """Return the only three-dimensional grid of a file, and what the file says of it."""
    grids = [(name, grid) for name, grid in xsf.grids.items() if grid.ndim == 3]
    n_fields = sum(len(grid.data) for _, grid in grids)
    if n_fields != 1:
        refuse(source, f"must hold one three-dimensional grid, found {n_fields}")
    name, grid = grids[0]
    labels = [label.removeprefix("grid/") for label in grid.labels]
    return grid, [xsf.comment, name, *labels]


def _without_last_planes(values: np.ndarray, source: Any) -> np.ndarray:
    """Return a grid without its ends, which must repeat its beginnings."""
    if min(values.shape) < 2:
        refuse(source, f"an XSF grid has both ends of each vector, found {values.shape} points")
    scale = float(np.abs(values).max())
    for axis, name in enumerate("abc"):
        first = np.take(values, 0, axis=axis)
        last = np.take(values, -1, axis=axis)
        if np.abs(first - last).max() > _SAME_PLANE * scale:
            refuse(
                source,
                f"an XSF grid has both ends of each vector, but its last plane along {name} does not repeat the "
                "first; write a general grid, or another format",
            )
    return values[:-1, :-1, :-1]


def _in_the_fitting_unit(density: Density) -> Density:
    in_angstrom = replace(density, values=density.values * BOHR**3)
    if not is_count(density.charge) and is_count(in_angstrom.charge):
        return in_angstrom
    return density
