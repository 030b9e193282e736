"""Empty space in a cell: slabs, wires, molecules in a box.

Along a lattice vector there is vacuum if the planes of grid points that the two other vectors span are empty, over some
thickness. Layers of a crystal, van der Waals ones included, stand closer than that.
"""

from dataclasses import dataclass

import numpy as np

from taskgroup.densities.standardise import sampled

# Å. A sharp cut of a heavy core's waves leaves ripples in empty space, which a further low-pass takes away.
_SMOOTHING = 0.4
# e/Å^3. Midway between the layers of graphite, or of molecules in a crystal, there is several times more.
EMPTY = 0.005
# Å, of empty planes one behind the other. Layers of a crystal leave none.
LEAST_THICKNESS = 2.0

_FORMS = ("", "a slab", "a wire", "a molecule")


@dataclass(frozen=True)
class Vacuum:
    """Empty space of a cell.

    Attributes
    ----------
    share: part of the cell's volume where the density is below 0.005 e/Å^3.
    thickness: of the empty planes along each lattice vector, Å.
    directions: the vectors along which at least 2 Å are empty, among ``a``, ``b`` and ``c``.
    """

    share: float
    thickness: tuple[float, float, float]
    directions: tuple[str, ...]

    @property
    def form(self) -> str:
        """What the cell holds: a slab, a wire, a molecule; empty without vacuum."""
        return _FORMS[len(self.directions)]

    def __bool__(self) -> bool:
        return bool(self.directions)

    def __str__(self) -> str:
        if not self.directions:
            return "no vacuum"
        along = ", ".join(self.directions)
        return f"vacuum along {along} ({self.share:.0%} of the cell is empty): {self.form}"


def find_vacuum(values: np.ndarray, lattice: np.ndarray) -> Vacuum:
    """Return the empty space of a density, [n1, n2, n3] in e/Å^3, in a cell [3, 3] in Å.

    >>> values = np.zeros((4, 4, 40))
    >>> values[:, :, :10] = 1.0
    >>> print(find_vacuum(values, np.diag([3.0, 3.0, 20.0])))
    vacuum along c (70% of the cell is empty): a slab
    """
    smooth = sampled(np.asarray(values, dtype=float)[None], lattice, values.shape, _SMOOTHING)[0]
    is_empty = smooth < EMPTY
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    thickness = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes = is_empty.all(axis=others)
        step = heights[axis] / len(planes)
        thickness.append(float(_longest_run(planes) * step))
    directions = []
    for name, size in zip("abc", thickness, strict=True):
        if size >= LEAST_THICKNESS:
            directions.append(name)
    return Vacuum(float(is_empty.mean()), tuple(thickness), tuple(directions))


def _longest_run(flags: np.ndarray) -> int:
    """Return the length of the longest run of true values around a circle."""
    filled = np.flatnonzero(~flags)
    if len(filled) == 0:
        return len(flags)
    gaps = np.diff(np.append(filled, filled[0] + len(flags)))
    return int(gaps.max()) - 1
