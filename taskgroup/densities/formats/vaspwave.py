"""VASP's vaspwave.h5: structure and charge density, with h5py; wave functions are not touched.

pymatgen's ``Vaspwave`` lists the plane waves of each k-point first, which takes a second for each. The tests compare.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.reader import Member, Reader, bare_name, local_file, one_line, refuse
from taskgroup.errors import MissingDependency

_NAME = re.compile(r"(?:^|[^A-Za-z])vaspwave[^/]*\.h5$", re.IGNORECASE)
_CHARGE = "charge/charge"
# Where the structure stands; the second with potentials only.
_STRUCTURES = ("structure/positions", "locpot/position")
# HDF5 stores nothing for what was never written: a kilobyte can promise terabytes.
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


class VaspwaveReader(Reader):
    """The charge density in a ``vaspwave.h5`` of VASP 6, with its magnetisation."""

    name: ClassVar[str] = "VASP vaspwave.h5"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and _NAME.search(name) is not None

    def read(self, source: Path | Member) -> Density:
        try:
            import h5py
        except ImportError:
            raise MissingDependency(
                f"{source}: reading HDF5 files needs a package: pip install 'taskgroup-materials[hdf5]'"
            ) from None
        with local_file(source) as path:
            try:
                with h5py.File(path, "r") as file:
                    return _density(file, path.stat().st_size, str(source))
            except _PARSE_ERRORS as error:
                refuse(source, f"must hold a structure and a charge density ({one_line(error)})")


def _density(file: Any, n_bytes: int, source: str) -> Density:
    """Return the density of an open file; what is missing raises KeyError."""
    if _CHARGE not in file:
        raise ValueError(f"no /{_CHARGE}: was it written with LCHARGH5 or LH5?")
    place = next((name for name in _STRUCTURES if name in file), _STRUCTURES[0])
    most = max(_UNSUSPICIOUS_BYTES, _MOST_FOLD * n_bytes)

    def array(name: str) -> np.ndarray:
        dataset = file[name]
        if dataset.nbytes > most:
            raise ValueError(f"/{name} promises {dataset.nbytes} bytes, more than is there")
        return np.asarray(dataset[()])

    lattice = float(array(f"{place}/scale")) * array(f"{place}/lattice_vectors").astype(float)
    positions = array(f"{place}/position_ions").astype(float)
    if int(array(f"{place}/direct_coordinates")) != 1:
        positions = positions @ np.linalg.inv(lattice)
    species = _species(array(f"{place}/ion_types"), array(f"{place}/number_ion_types"), positions)
    # [components, z, y, x] in the file, rho times the volume of the cell.
    blocks = array(_CHARGE).astype(float).transpose(0, 3, 2, 1)
    grid = tuple(int(n) for n in array("charge/grid"))
    if grid != blocks.shape[1:]:
        raise ValueError(f"charge/grid {grid} does not match the charge {blocks.shape[1:]}")
    if len(blocks) == 4:
        size = np.sqrt(np.square(blocks[1:]).sum(axis=0))
        blocks = np.stack([blocks[0], size])
    volume = abs(np.linalg.det(lattice))
    return Density(blocks / volume, lattice, species, positions, "valence", source)


def _species(types: np.ndarray, counts: np.ndarray, positions: np.ndarray) -> tuple[str, ...]:
    if len(types) != len(counts) or counts.min() < 0 or int(counts.sum()) != len(positions):
        raise ValueError(
            f"{counts.tolist()} atoms of {len(types)} elements, {len(positions)} places"
        )
    species: list[str] = []
    for word, count in zip(types, counts, strict=True):
        name = word.decode() if isinstance(word, bytes) else str(word)
        # as in POTCAR: Na_pv
        species += [name.strip().split("_")[0]] * int(count)
    return tuple(species)
