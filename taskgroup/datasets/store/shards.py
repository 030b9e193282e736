"""Reading of single densities out of shards, wherever fsspec finds them: one request per density.

- zarr reads the same files, and any zarr tool may; but through its layers one row takes 4 to 6 ms, of which decoding is
  0.1. A training set of 100,000 is read in random order, so this module looks up the place of a chunk itself.
- A shard of zarr v3 ends with an index: offset and length, uint64, of every chunk, all ones where there is none, and a
  checksum. Chunks are Blosc frames. See the specification of the sharding codec,
  https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CHANNELS = 2
_ENTRY = np.dtype([("offset", "<u8"), ("length", "<u8")])
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
# A shard is no larger: offsets beyond are damage, and would overflow.
_MOST_BYTES = 2**40
_CHECKSUM_BYTES = 4
# header of a Blosc frame: bytes unpacked, of a block, packed
_FRAME = struct.Struct("<4xIII")
_FRAME_HEADER_BYTES = 16


class Shards:
    """The densities of a store by position.

    Args:
        file_system, folder: the file system, and the folder of the density array in it.
        part_rows: densities per shard.
        grid: points per axis.
    """

    def __init__(
        self, file_system: "AbstractFileSystem", folder: str, part_rows: int, grid: int
    ) -> None:
        self._file_system = file_system
        self._folder = folder
        self._part_rows = part_rows
        self._grid = grid
        # 4 kB per shard, kept once read
        self._index_by_part: dict[int, NDArray] = {}

    def read(self, positions: NDArray[np.int64], n_channels: int) -> NDArray[np.float16]:
        """Return float16 [positions, n_channels, n, n, n]. Raises StoreError: a shard is lost or damaged."""
        shape = (len(positions), n_channels, self._grid, self._grid, self._grid)
        densities = np.zeros(shape, dtype=np.float16)
        try:
            self._fill(densities, positions)
        except (OSError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"{self._folder}: damaged, a density cannot be read ({error})"
            ) from error
        return densities

    def _fill(self, densities: NDArray[np.float16], positions: NDArray[np.int64]) -> None:
        self._read_indices({int(position) // self._part_rows for position in positions})
        places, paths, starts, ends = [], [], [], []
        for row, position in enumerate(positions):
            part, place = divmod(int(position), self._part_rows)
            entries = self._index_by_part[part][place, : densities.shape[1]].tolist()
            if entries[0] == _NO_CHUNK:
                raise ValueError(f"no density at position {position}")
            for channel, entry in enumerate(entries):
                # a magnetisation of zeros has no chunk
                if entry == _NO_CHUNK:
                    continue
                offset, length = entry
                places.append((row, channel))
                paths.append(self._path(part))
                starts.append(offset)
                ends.append(offset + length)
        frames = self._file_system.cat_ranges(paths, starts, ends, on_error="raise")
        for place, frame in zip(places, frames, strict=True):
            _unpack(frame, densities[place])

    def _read_indices(self, parts: set[int]) -> None:
        """Read the indices of these shards that are not in memory yet."""
        new_parts = sorted(parts - self._index_by_part.keys())
        size = self._part_rows * CHANNELS * _ENTRY.itemsize + _CHECKSUM_BYTES
        paths = [self._path(part) for part in new_parts]
        starts, ends = [-size] * len(paths), [None] * len(paths)
        tails = self._file_system.cat_ranges(paths, starts, ends, on_error="raise")
        for part, tail in zip(new_parts, tails, strict=True):
            if len(tail) != size:
                raise ValueError(f"shard {part} is cut short")
            entries = np.frombuffer(tail[:-_CHECKSUM_BYTES], _ENTRY)
            chunks = entries[entries != np.array(_NO_CHUNK, _ENTRY)]
            if max(chunks["offset"].max(initial=0), chunks["length"].max(initial=0)) > _MOST_BYTES:
                raise ValueError(f"the index of shard {part} makes no sense")
            self._index_by_part[part] = entries.reshape(self._part_rows, CHANNELS)

    def _path(self, part: int) -> str:
        return f"{self._folder}/c/{part}/0/0/0/0"


def _unpack(frame: bytes, out: NDArray[np.float16]) -> None:
    from numcodecs.blosc import Blosc

    # Blosc trusts its header: a wrong one is found here, and not by writing beyond ``out``.
    if len(frame) < _FRAME_HEADER_BYTES:
        raise ValueError("a chunk is cut short")
    unpacked_bytes, _, packed_bytes = _FRAME.unpack_from(frame)
    if unpacked_bytes != out.nbytes or packed_bytes != len(frame):
        raise ValueError("a chunk is not what its shard says")
    Blosc().decode(frame, out=out)
