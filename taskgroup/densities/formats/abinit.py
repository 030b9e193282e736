"""ABINIT's DEN.nc files (ETSF-IO netCDF): e/Bohr^3, first axis slowest in the file, points at i/N.

Spin-polarised runs hold (total, up), non-collinear ones (total, mx, my, mz).
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.elements import SYMBOLS
from taskgroup.densities.reader import Member, Reader, bare_name, one_line, read_content, refuse
from taskgroup.errors import MissingDependency

_NAME = re.compile(r"(?:^|[^A-Za-z])DEN\.nc$")
_VARIABLES = (
    "primitive_vectors",
    "reduced_atom_positions",
    "atom_species",
    "atomic_numbers",
    "density",
)
# netCDF stores nothing for what was never written: a kilobyte can promise terabytes.
_MOST_FOLD = 200
_UNSUSPICIOUS_BYTES = 16 * 1024**2
_PARSE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class AbinitReader(Reader):
    """ABINIT's netCDF files of a density, such as ``sio_DEN.nc``."""

    name: ClassVar[str] = "ABINIT DEN.nc"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and _NAME.search(name) is not None

    def read(self, source: Path | Member) -> Density:
        try:
            from netCDF4 import Dataset
        except ImportError:
            raise MissingDependency(
                f"{source}: reading ABINIT's netCDF files needs a package: pip install netCDF4"
            ) from None
        content = read_content(source)
        try:
            with Dataset(str(source), memory=content) as file:
                _check_sizes(file, len(content))
                return _density(file, source)
        except _PARSE_ERRORS as error:
            refuse(source, f"must be an ABINIT density in netCDF ({one_line(error)})")


def _check_sizes(file: Any, n_bytes: int) -> None:
    """Refuse arrays that promise more than the file holds, before memory is taken. Raises KeyError, ValueError."""
    for name in _VARIABLES:
        promised = file[name].size * file[name].dtype.itemsize
        if promised > max(_UNSUSPICIOUS_BYTES, _MOST_FOLD * n_bytes):
            raise ValueError(f"'{name}' promises {promised} bytes, more than is there")


def _density(file: Any, source: Any) -> Density:
    """Return the density of an open netCDF file; missing variables raise KeyError."""
    lattice = np.asarray(file["primitive_vectors"][:], dtype=float) * BOHR
    frac_coords = np.asarray(file["reduced_atom_positions"][:], dtype=float)
    # Species are counted from 1.
    rows = np.asarray(file["atom_species"][:], dtype=int) - 1
    numbers = np.asarray(file["atomic_numbers"][:], dtype=float)[rows]
    # [components, z, y, x, 1] in the file.
    components = np.asarray(file["density"][:], dtype=float)
    if components.ndim != 5 or components.shape[-1] != 1:
        raise ValueError(f"the density must be real with 5 axes, found {components.shape}")
    blocks = components[..., 0].transpose(0, 3, 2, 1) / BOHR**3
    return Density(
        _total_and_magnetisation(blocks),
        lattice,
        tuple(_symbol(number, source) for number in numbers),
        frac_coords,
        "valence",
        str(source),
    )


def _total_and_magnetisation(blocks: np.ndarray) -> np.ndarray:
    n_components = len(blocks)
    if n_components == 1:
        return blocks
    if n_components == 2:
        total, up = blocks
        return np.stack([total, 2 * up - total])
    if n_components == 4:
        size = np.sqrt(np.square(blocks[1:]).sum(axis=0))
        return np.stack([blocks[0], size])
    raise ValueError(f"the density must have 1, 2 or 4 components, found {n_components}")


def _symbol(number: float, source: Any) -> str:
    if number not in range(1, len(SYMBOLS) + 1):
        refuse(source, f"atoms must have atomic numbers 1 to {len(SYMBOLS)}, found {number:g}")
    return SYMBOLS[int(number) - 1]
