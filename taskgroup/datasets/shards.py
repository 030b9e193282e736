"""Reading single densities out of shards, wherever fsspec finds them: one request a density.

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
_NOTHING = (2**64 - 1, 2**64 - 1)
_MOST_BYTES = 2**40  # of a shard: offsets beyond are damage, and would overflow
_CHECKSUM_BYTES = 4
_FRAME = struct.Struct("<4xIII")  # of Blosc: bytes unpacked, of a block, packed


class Shards:
    """The densities of a store by position.

    Args:
        files, folder: the file system and the folder of the density array in it.
        part_rows: densities a shard.
        grid: points an axis.
    """

    def __init__(self, files: "AbstractFileSystem", folder: str, part_rows: int, grid: int) -> None:
        self._files, self._folder = files, folder
        self._part_rows, self._grid = part_rows, grid
        self._index: dict[int, NDArray] = {}  # 4 kB a shard, kept once read

    def read(self, positions: NDArray[np.int64], n_channels: int) -> NDArray[np.float16]:
        """float16 [positions, n_channels, n, n, n]. Raises StoreError where a shard is lost or damaged."""
        densities = np.zeros((len(positions), n_channels, *[self._grid] * 3), dtype=np.float16)
        try:
            self._fill(densities, positions)
        except (OSError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"{self._folder}: damaged, a density cannot be read ({error})"
            ) from error
        return densities

    def _fill(self, densities: NDArray[np.float16], positions: NDArray[np.int64]) -> None:
        self._learn(sorted({int(p) // self._part_rows for p in positions} - self._index.keys()))
        wanted, paths, starts, ends = [], [], [], []
        for row, position in enumerate(positions):
            part, place = divmod(int(position), self._part_rows)
            entries = self._index[part][place, : densities.shape[1]].tolist()
            if entries[0] == _NOTHING:
                raise ValueError(f"no density at position {position}")
            for channel, entry in enumerate(entries):
                if entry != _NOTHING:  # a magnetisation of zeros has no chunk
                    wanted.append((row, channel))
                    paths.append(self._path(part))
                    starts.append(entry[0])
                    ends.append(sum(entry))
        frames = self._files.cat_ranges(paths, starts, ends, on_error="raise")
        for place, frame in zip(wanted, frames, strict=True):
            _unpack(frame, densities[place])

    def _learn(self, parts: list[int]) -> None:
        """Read the index of these shards."""
        size = self._part_rows * CHANNELS * _ENTRY.itemsize + _CHECKSUM_BYTES
        paths = [self._path(part) for part in parts]
        ends = self._files.cat_ranges(
            paths, [-size] * len(parts), [None] * len(parts), on_error="raise"
        )
        for part, end in zip(parts, ends, strict=True):
            if len(end) != size:
                raise ValueError(f"shard {part} is cut short")
            index = np.frombuffer(end[:-_CHECKSUM_BYTES], _ENTRY).reshape(self._part_rows, CHANNELS)
            there = index[index != np.array(_NOTHING, _ENTRY)]
            if (there["offset"] > _MOST_BYTES).any() or (there["length"] > _MOST_BYTES).any():
                raise ValueError(f"the index of shard {part} makes no sense")
            self._index[part] = index

    def _path(self, part: int) -> str:
        return f"{self._folder}/c/{part}/0/0/0/0"


def _unpack(frame: bytes, out: NDArray[np.float16]) -> None:
    from numcodecs.blosc import Blosc

    # Blosc trusts its header, so a wrong one is found here and not by writing beyond ``out``.
    if len(frame) < 16 or _FRAME.unpack_from(frame)[::2] != (out.nbytes, len(frame)):
        raise ValueError("a chunk is not what its shard says")
    Blosc().decode(frame, out=out)
