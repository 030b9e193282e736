"""Compressed files, known by their first bytes and not by their names.

gzip, bzip2, xz, lzma, zlib and zip need the standard library only; zstd needs the package
``zstandard``, lz4 ``lz4`` and compress (.Z) ``unlzw3``. A file may be compressed twice. How large it becomes is
limited, so that a small file cannot fill the memory.
"""

import bz2
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from taskgroup.errors import DensityError, MissingDependency

SUFFIXES = (".gz", ".bz2", ".xz", ".lzma", ".z", ".zst", ".zstd", ".lz4", ".zz", ".zlib", ".zip")

#: Bytes. A CHGCAR with two channels of 300^3 points has 1 GB; nothing larger fits the networks' memory either.
MOST_BYTES = 2 * 1024**3
# Numbers as text shrink 2- to 50-fold. Only above this size is more taken for an attack or an accident.
_UNSUSPICIOUS_BYTES = 128 * 1024**2
_MOST_FOLD = 200
# Layers of compression: a file that was compressed again for its way through the network.
_MOST_LAYERS = 2
_CHUNK = 4 * 1024**2

# What the libraries raise on damaged content; RuntimeError is lz4's.
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)

_MAGIC = {
    "gzip": b"\x1f\x8b",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "lzma": b"\x5d\x00\x00",
    "compress": b"\x1f\x9d",
    "zstd": b"\x28\xb5\x2f\xfd",
    "lz4": b"\x04\x22\x4d\x18",
    "zip": b"PK\x03\x04",
}
# The first two bytes of a zlib stream with its usual window, at each of the four levels (RFC 1950).
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def bare_name(name: str) -> str:
    """Return a file's name without the endings of compression.

    >>> bare_name("CHGCAR.gz"), bare_name("x.cube.zst"), bare_name("x.cube")
    ('CHGCAR', 'x.cube', 'x.cube')
    """
    for _ in range(_MOST_LAYERS):
        suffix = Path(name).suffix
        if suffix.lower() not in SUFFIXES:
            break
        name = name.removesuffix(suffix)
    return name


def compression_of(start: bytes) -> str | None:
    """Return the name of the compression that a content's first bytes stand for, or None.

    >>> compression_of(gzip.compress(b"")), compression_of(b"Si2")
    ('gzip', None)
    """
    for name, magic in _MAGIC.items():
        if start.startswith(magic):
            return name
    if start.startswith(_ZLIB):
        return "zlib"
    return None


def read_file(path: Path) -> bytes:
    """Return the content of a file, decompressed where it is compressed. Raises DensityError."""
    with open_plain(path) as stream:
        return read_limited(stream, str(path), path.stat().st_size)


def decompress(content: bytes, source: str) -> bytes:
    """Return what compressed bytes hold, and other bytes as they are. Raises DensityError, which names the source."""
    if compression_of(content[:8]) is None:
        return content
    return read_limited(_plain(io.BytesIO(content), source), source, len(content))


@contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """Open a file as a stream of its uncompressed content. Raises DensityError."""
    try:
        file = open(path, "rb", buffering=_CHUNK)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise DensityError(f"{path}: no such file") from None
    except OSError as error:
        raise damaged(str(path), error) from None
    # The decompressors leave the file under them open.
    with file:
        yield _plain(file, str(path))


def read_limited(stream: IO[bytes], source: str, packed_size: int) -> bytes:
    """Read a stream to its end. Raises DensityError if it is damaged or larger than the limits."""
    most = min(MOST_BYTES, max(_UNSUSPICIOUS_BYTES, _MOST_FOLD * packed_size))
    content = bytearray()
    try:
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > most:
                raise _too_large(source, most)
    except damage_errors() as error:
        raise damaged(source, error) from None
    return bytes(content)


def damage_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that damaged content raises, those of optional packages only once they are imported."""
    zstandard = sys.modules.get("zstandard")
    if zstandard is None:
        return _DAMAGE
    return (*_DAMAGE, zstandard.ZstdError)


def damaged(source: str, error: BaseException) -> DensityError:
    """Return the error to raise for damaged content, in one line; one of our own as it is."""
    if isinstance(error, DensityError):
        return error
    reason = " ".join(str(error).split()) or type(error).__name__
    return DensityError(f"{source}: cannot be read, truncated or damaged ({reason})")


def _too_large(source: str, most: int) -> DensityError:
    return DensityError(
        f"{source}: must hold at most {most / 1024**2:.0f} MB uncompressed, found more; "
        "write a coarser grid, or check that this is a density"
    )


def _plain(file: IO[bytes], source: str) -> IO[bytes]:
    """Wrap a stream in decompressors until its content is plain."""
    stream = file if hasattr(file, "peek") else io.BufferedReader(file, _CHUNK)
    try:
        for _ in range(_MOST_LAYERS):
            kind = compression_of(stream.peek(8)[:8])
            if kind is None:
                break
            stream = io.BufferedReader(_OPENERS[kind](stream, source), _CHUNK)
    except MissingDependency:
        raise
    except damage_errors() as error:
        raise damaged(source, error) from None
    return stream


class _ZlibStream(io.RawIOBase):
    """A readable stream of what a zlib stream holds; the standard library has one for gzip only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            chunk = self._inflate.decompress(packed, len(buffer))
            if chunk:
                buffer[: len(chunk)] = chunk
                return len(chunk)
            if not packed:
                raise EOFError("the stream ends too early")
        return 0


def _open_gzip(file: IO[bytes], source: str) -> IO[bytes]:
    return gzip.GzipFile(fileobj=file, mode="rb")


def _open_bzip2(file: IO[bytes], source: str) -> IO[bytes]:
    return bz2.BZ2File(file, "rb")


def _open_lzma(file: IO[bytes], source: str) -> IO[bytes]:
    return lzma.LZMAFile(file, "rb")


def _open_zlib(file: IO[bytes], source: str) -> IO[bytes]:
    return _ZlibStream(file)


def _open_zip(file: IO[bytes], source: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if len(names) != 1:
        raise DensityError(
            f"{source}: a zip file read as one density must hold one file, found {len(names)}"
        )
    return archive.open(names[0])


def _open_zstd(file: IO[bytes], source: str) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise _missing(source, "zstd", "zstandard") from None
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


def _open_lz4(file: IO[bytes], source: str) -> IO[bytes]:
    try:
        import lz4.frame
    except ImportError:
        raise _missing(source, "lz4", "lz4") from None
    return lz4.frame.LZ4FrameFile(file)


def _open_compress(file: IO[bytes], source: str) -> IO[bytes]:
    try:
        from unlzw3 import unlzw
    except ImportError:
        raise _missing(source, "compress (.Z)", "unlzw3") from None
    # The package has no stream: the compressed content, which is limited by the file's size, is read at once.
    return io.BytesIO(unlzw(file.read()))


def _missing(source: str, compression: str, package: str) -> MissingDependency:
    return MissingDependency(
        f"{source}: compressed with {compression}, for which a package is missing: pip install {package}"
    )


_OPENERS: dict[str, Callable[[IO[bytes], str], IO[bytes]]] = {
    "gzip": _open_gzip,
    "bzip2": _open_bzip2,
    "xz": _open_lzma,
    "lzma": _open_lzma,
    "zlib": _open_zlib,
    "zip": _open_zip,
    "zstd": _open_zstd,
    "lz4": _open_lz4,
    "compress": _open_compress,
}
