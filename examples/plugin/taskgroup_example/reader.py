"""A reader for a plain text format.

C 0.0 0.0 0.0; C 0.25 0.25 0.25      atoms: symbol and fractional coordinates
2.5 0 0  0 2.5 0  0 0 2.5            lattice vectors, Å
10 10 10                             grid points
0.1 0.2 ...                          electrons per Å^3, last axis fastest
"""

from pathlib import Path
from typing import Any

import numpy as np

from taskgroup.densities import Density, Reader
from taskgroup.errors import DensityError


class PlainTextReader(Reader):
    """Reads files that end in ``.rho.txt``."""

    name = "plain text (.rho.txt)"

    def suits(self, source: Any) -> bool:
        """Return whether the path has our suffix; the file is not opened."""
        return isinstance(source, Path) and source.name.endswith(".rho.txt")

    def read(self, source: Path) -> Density:
        """Return the density. Raises DensityError: the file breaks the format."""
        try:
            text = source.read_text(encoding="ascii")
        except FileNotFoundError:
            raise DensityError(f"{source}: no such file") from None
        except UnicodeDecodeError:
            raise DensityError(f"{source}: must be plain ASCII text") from None
        try:
            return self._parse(text, str(source))
        except (ValueError, IndexError) as error:
            raise DensityError(f"{source}: not a plain text density ({error})") from None

    def _parse(self, text: str, source: str) -> Density:
        atoms, lattice, grid, values = text.split("\n", 3)
        species = []
        positions = []
        for atom in atoms.split(";"):
            symbol, *coordinates = atom.split()
            species.append(symbol)
            positions.append([float(x) for x in coordinates])
        shape = tuple(int(n) for n in grid.split())
        numbers = np.array(values.split(), dtype=float)
        return Density(
            values=numbers.reshape(1, *shape),
            lattice=np.array(lattice.split(), dtype=float).reshape(3, 3),
            species=tuple(species),
            frac_coords=np.array(positions).reshape(-1, 3),
            kind="valence",
            source=source,
        )
