"""Densities of single rows: float16 arrays whose numbers of points follow the size of the cell.

Rows of one dataset have grids of different shapes, and arrays hold one shape only. So densities are read row by row, or
in batches of one shape each.
"""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.errors import StoreError

ReadRows = Callable[[NDArray[np.int64]], list[NDArray[np.float16]]]

# Grid points of a batch: 64 crystals at 32^3, which is 8 MB per channel in float32.
BATCH_POINTS = 64 * 32**3
BATCH_ROWS = 64


def to_float16(values: ArrayLike, what: str) -> NDArray[np.float16]:
    """Return values as float16. Raises StoreError: a value is not finite, or beyond what float16 holds (65504)."""
    array = np.asarray(values)
    largest = np.abs(array).max(initial=0)
    # written so that it is also true of NaN
    if not largest <= np.finfo(np.float16).max:
        raise StoreError(
            f"{what}: densities are stored as float16, up to 65504 e/Å^3, got {largest:g}"
        )
    return array.astype(np.float16)


def digest_density(density: NDArray[np.float16]) -> str:
    """Return the sha256 of one density [C, n1, n2, n3].

    A magnetisation of zeros is left out, as a density of one channel says the same.
    """
    channels = density[:1]
    if density[1:].any():
        channels = density
    digest = hashlib.sha256()
    shape = density.shape[1:]
    # The number of values tells the shape of a grid with three equal axes: such digests are older than this line.
    if len(set(shape)) > 1:
        digest.update(repr(tuple(map(int, shape))).encode())
    digest.update((channels + np.float16(0)).astype("<f2").tobytes())
    return digest.hexdigest()


def equal_shape_batches(
    shapes: NDArray[np.int64],
    rows: NDArray[np.int64],
    most_rows: int = BATCH_ROWS,
    most_points: int = BATCH_POINTS,
) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of ``rows`` in batches whose grids have one shape; each of them once.

    A batch has at most ``most_rows`` rows and ``most_points`` points, or a single row. ``shapes`` [all rows, 3].
    """
    if len(rows) == 0:
        return
    bucket_of_row = np.unique(shapes[rows], axis=0, return_inverse=True)[1].reshape(-1)
    # stable: rows of a bucket stay in order
    order = np.argsort(bucket_of_row, kind="stable")
    bucket_starts = np.flatnonzero(np.diff(bucket_of_row[order])) + 1
    for places in np.split(order, bucket_starts):
        bucket = rows[places]
        n_points = int(np.prod(shapes[bucket[0]]))
        size = max(1, min(most_rows, most_points // n_points))
        for start in range(0, len(bucket), size):
            yield bucket[start : start + size]
