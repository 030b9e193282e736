"""Reading of single densities out of shards, wherever fsspec finds them: one request per density and channel.

- zarr reads the same files, and any zarr tool may; but through its layers one row takes 4 to 6 ms, of which decoding is
  0.1. A training set of 100,000 is read in random order, so this module looks up the places of chunks itself.
- A shard of zarr v3 ends with an index: offset and length, uint64, of every chunk, all ones where there is none, and a
  checksum. Chunks are Blosc frames. See the specification of the sharding codec,
  https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
- Where each density lies is said by a ``Layout``, one for each form that stores have had.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ENTRY = np.dtype([("offset", "<u8"), ("length", "<u8")])
_NO_CHUNK = (2**64 - 1, 2**64 - 1)
# A shard is no larger: offsets beyond are damage, and would overflow.
_MOST_BYTES = 2**40
# Chunks of a shard: an index of 16 MB.
_MOST_CHUNKS = 2**20
# Grid points of one density: 2 GB in the working memory of a network.
_MOST_POINTS = 2**28
_CHECKSUM_BYTES = 4
# header of a Blosc frame: bytes unpacked, of a block, packed
_FRAME = struct.Struct("<4xIII")
_FRAME_HEADER_BYTES = 16


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the densities of a store lie.

    Attributes:
        path_of_part: path of the shard of a part, below the folder of the densities.
        parts: int [rows], the part of each row.
        first_chunks: int [rows], the number of a row's first chunk in its shard.
        chunks_in_shard: int [rows], how many chunks the row's shard has.
        shapes: int [rows, 3], points along each vector.
        chunk_points: points of a chunk; a channel of a density begins with a new one.
        channel_counts: int [rows], how many channels are stored; further ones are zero.

    Raises ValueError: a number is impossible.
    """

    path_of_part: Callable[[int], str]
    parts: NDArray[np.int64]
    first_chunks: NDArray[np.int64]
    chunks_in_shard: NDArray[np.int64]
    shapes: NDArray[np.int64]
    chunk_points: int
    channel_counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        # Factors are looked at first, as their product may overflow.
        is_small = self.shapes.max(initial=1) <= _MOST_POINTS
        if not is_small or self.shapes.astype(float).prod(axis=1).max(initial=1) > _MOST_POINTS:
            raise ValueError(f"a density has more than {_MOST_POINTS} points")
        if self.shapes.min(initial=1) < 1:
            raise ValueError("a density has no points")
        if not 1 <= self.chunks_in_shard.min(initial=1) <= _MOST_CHUNKS:
            raise ValueError("a shard without chunks")
        if not 1 <= self.channel_counts.min(initial=1) <= self.channel_counts.max(initial=1) <= 2:
            raise ValueError("a density has one channel or two")
        if self.chunks_in_shard.max(initial=1) > _MOST_CHUNKS:
            raise ValueError(f"a shard has more than {_MOST_CHUNKS} chunks")


class _Piece(NamedTuple):
    """One range of bytes of a shard, and the values that its frames fill one after the other."""

    path: str
    start: int
    lengths: list[int]
    values: list[NDArray[np.float16]]


class Shards:
    """The densities of a store by row.

    Args:
        file_system, folder: the file system, and the folder of the densities in it.
        layout: where each row lies.
    """

    def __init__(self, file_system: "AbstractFileSystem", folder: str, layout: Layout) -> None:
        self._file_system = file_system
        self._folder = folder
        self._layout = layout
        # 16 bytes per chunk, kept once read
        self._index_by_part: dict[int, NDArray] = {}

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Points along the vectors of each row, [rows, 3]."""
        return self._layout.shapes

    def read(self, rows: NDArray[np.int64], n_channels: int) -> list[NDArray[np.float16]]:
        """Return float16 [n_channels, n1, n2, n3] of each row. Raises StoreError: a shard is lost or damaged."""
        try:
            return self._read(rows, n_channels)
        except (OSError, ValueError, RuntimeError, IndexError, OverflowError) as error:
            raise StoreError(
                f"{self._folder}: damaged, a density cannot be read ({error})"
            ) from error

    def _read(self, rows: NDArray[np.int64], n_channels: int) -> list[NDArray[np.float16]]:
        self._read_indices(rows)
        densities = []
        pieces: list[_Piece] = []
        for row in rows:
            density = np.zeros((n_channels, *self._layout.shapes[row]), dtype=np.float16)
            densities.append(density)
            pieces += self._pieces(int(row), density)
        paths = [piece.path for piece in pieces]
        starts = [piece.start for piece in pieces]
        ends = [piece.start + sum(piece.lengths) for piece in pieces]
        contents = self._file_system.cat_ranges(paths, starts, ends, on_error="raise")
        for piece, content in zip(pieces, contents, strict=True):
            place = 0
            for length, values in zip(piece.lengths, piece.values, strict=True):
                _unpack(content[place : place + length], values, self._layout.chunk_points)
                place += length
        return densities

    def _pieces(self, row: int, density: NDArray[np.float16]) -> Iterator[_Piece]:
        """Yield the ranges to be read for a row; chunks that follow each other in the file are one range."""
        layout = self._layout
        part = int(layout.parts[row])
        index = self._index_by_part[part]
        n_chunks = math.ceil(math.prod(density.shape[1:]) / layout.chunk_points)
        first = int(layout.first_chunks[row])
        for channel in range(min(len(density), int(layout.channel_counts[row]))):
            entries = index[first : first + n_chunks].tolist()
            first += n_chunks
            if len(entries) < n_chunks:
                raise ValueError(f"no density of row {row}")
            # A magnetisation of zeros has no chunk, and neither has a piece of empty space.
            if channel == 0 and all(entry == _NO_CHUNK for entry in entries):
                raise ValueError(f"no density of row {row}")
            flat = density[channel].reshape(-1)
            yield from _joined(self._path(part), entries, flat, layout.chunk_points)

    def _read_indices(self, rows: NDArray[np.int64]) -> None:
        """Read the indices of the shards of these rows that are not in memory yet."""
        layout = self._layout
        sizes = {int(layout.parts[row]): int(layout.chunks_in_shard[row]) for row in rows}
        new_parts = sorted(sizes.keys() - self._index_by_part.keys())
        tail_bytes = [sizes[part] * _ENTRY.itemsize + _CHECKSUM_BYTES for part in new_parts]
        paths = [self._path(part) for part in new_parts]
        starts = [-size for size in tail_bytes]
        tails = self._file_system.cat_ranges(paths, starts, [None] * len(paths), on_error="raise")
        for part, size, tail in zip(new_parts, tail_bytes, tails, strict=True):
            if len(tail) != size:
                raise ValueError(f"shard {part} is cut short")
            entries = np.frombuffer(tail[:-_CHECKSUM_BYTES], _ENTRY)
            chunks = entries[entries != np.array(_NO_CHUNK, _ENTRY)]
            if max(chunks["offset"].max(initial=0), chunks["length"].max(initial=0)) > _MOST_BYTES:
                raise ValueError(f"the index of shard {part} makes no sense")
            self._index_by_part[part] = entries

    def _path(self, part: int) -> str:
        return f"{self._folder}/{self._layout.path_of_part(part)}"


def _joined(
    path: str, entries: list[tuple[int, int]], flat: NDArray[np.float16], chunk_points: int
) -> Iterator[_Piece]:
    """Yield the ranges of the chunks of one channel, whose values are ``flat``."""
    piece: _Piece | None = None
    for number, entry in enumerate(entries):
        if entry == _NO_CHUNK:
            continue
        offset, length = entry
        values = flat[number * chunk_points : (number + 1) * chunk_points]
        if piece is not None and offset == piece.start + sum(piece.lengths):
            piece.lengths.append(length)
            piece.values.append(values)
            continue
        if piece is not None:
            yield piece
        piece = _Piece(path, offset, [length], [values])
    if piece is not None:
        yield piece


def _unpack(frame: bytes, out: NDArray[np.float16], chunk_points: int) -> None:
    """Decode a frame into ``out``; the last chunk of a density may be longer than what is left of it."""
    from numcodecs.blosc import Blosc

    room = out
    if out.size < chunk_points:
        room = np.empty(chunk_points, dtype=np.float16)
    # Blosc trusts its header: a wrong one is found here, and not by writing beyond ``room``.
    if len(frame) < _FRAME_HEADER_BYTES:
        raise ValueError("a chunk is cut short")
    unpacked_bytes, _, packed_bytes = _FRAME.unpack_from(frame)
    if unpacked_bytes != room.nbytes or packed_bytes != len(frame):
        raise ValueError("a chunk is not what its shard says")
    Blosc().decode(frame, out=room)
    if room is not out:
        out[:] = room[: out.size]
