"""Gaussian cube files: values in e/Bohr^3, z fastest, on a grid of voxels.

- A voxel's edge is given, so the cell is edge times count: the convention of the periodic codes, in which the last
  point is one voxel before the cell's end. A file that repeats the first plane at the end counts that plane twice;
  the electron count gives it away.
- Positive voxel counts mean Bohr, negative ones Å, for voxels, origin and atoms; values are e/Bohr^3 either way.
- Grid points start at the origin; a crystal may begin anywhere, so the atoms are shifted by minus the origin.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.constants import physical_constants

from taskgroup.densities.density import Density
from taskgroup.densities.reader import Reader, bare_name, read_bytes, refuse

BOHR = physical_constants["Bohr radius"][0] * 1e10  # Å


class CubeReader(Reader):
    """Gaussian cube files of a total density, compressed or not."""

    name: ClassVar[str] = "Gaussian cube"

    def suits(self, source: Any) -> bool:
        return isinstance(source, Path) and bare_name(source).lower().endswith((".cube", ".cub"))

    def read(self, source: Path) -> Density:
        lines = read_bytes(source).decode(errors="replace").splitlines()
        n_atoms, origin, counts, voxels, atoms = _header(lines, source)
        unit = BOHR if counts[0] > 0 else 1.0
        grid = tuple(abs(count) for count in counts)
        values = _values(lines[6 + n_atoms :], grid, source)
        lattice = voxels * np.array(grid)[:, None] * unit
        if abs(np.linalg.det(lattice)) < 1e-6:
            refuse(source, "the voxels must span a volume, found vectors in one plane")
        positions = (atoms[:, 2:] - origin) * unit
        frac_coords = positions @ np.linalg.inv(lattice)
        return Density(
            values[None] / BOHR**3,
            lattice,
            _symbols(atoms, source),
            frac_coords,
            "valence",
            str(source),
        )


def _header(
    lines: list[str], source: Path
) -> tuple[int, np.ndarray, list[int], np.ndarray, np.ndarray]:
    """Number of atoms, origin, voxel counts with their signs, voxel edges [3, 3] and the rows of the atoms [n, 5]."""
    try:
        first = lines[2].split()
        n_atoms, origin = int(first[0]), np.array(first[1:4], dtype=float)
        axes = [line.split() for line in lines[3:6]]
        counts = [int(axis[0]) for axis in axes]
        voxels = np.array([axis[1:4] for axis in axes], dtype=float)
        atoms = np.array([line.split() for line in lines[6 : 6 + max(n_atoms, 0)]], dtype=float)
    except (ValueError, IndexError) as error:
        refuse(source, f"must begin with a cube header, which does not parse ({error})")
    if n_atoms < 0 or first[4:] not in ([], ["1"]):
        refuse(
            source, "must hold one density, found a cube of orbitals or of several values a point"
        )
    if voxels.shape != (3, 3) or origin.shape != (3,):
        refuse(source, "origin and voxel edges must have three numbers each")
    if 0 in counts or len({count > 0 for count in counts}) > 1:
        refuse(
            source, f"voxel counts must be all positive (Bohr) or all negative (Å), found {counts}"
        )
    if n_atoms == 0 or atoms.shape != (n_atoms, 5):
        refuse(
            source,
            f"must list {n_atoms} atoms (at least one) with 5 numbers each, found {list(atoms.shape)}",
        )
    return n_atoms, origin, counts, voxels, atoms


def _values(lines: list[str], grid: tuple[int, ...], source: Path) -> np.ndarray:
    words = " ".join(lines).split()
    if len(words) != np.prod(grid, dtype=object):
        rule = f"must hold {' x '.join(map(str, grid))} values, found {len(words)}: truncated, or a wrong grid"
        refuse(source, rule)
    try:
        return np.array(words, dtype=float).reshape(grid)
    except ValueError as error:
        refuse(source, f"values must be numbers ({error})")


def _symbols(atoms: np.ndarray, source: Path) -> tuple[str, ...]:
    from pymatgen.core import Element

    try:
        return tuple(Element.from_Z(int(number)).symbol for number in atoms[:, 0])
    except ValueError as error:
        refuse(source, f"atoms must have atomic numbers ({error})")
