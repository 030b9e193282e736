"""Content of a table's file, unpacked where it is compressed, up to a limit."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

from taskgroup.errors import TargetError

# Bytes of a table, unpacked: a million rows of twenty columns. A few packed megabytes may hold thousands.
MOST_BYTES = 200 << 20
_BLOCK = 1 << 20
_OPENERS = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}


def read_unpacked(path: Path) -> bytes:
    """Return the content of a file; compression is known by content. Raises TargetError: too large, or damaged."""
    with path.open("rb") as file:
        head = file.read(8)
    opener = open
    for magic, unpacking in _OPENERS.items():
        if head.startswith(magic):
            opener = unpacking
    content = bytearray()
    try:
        with opener(path, "rb") as file:
            while block := file.read(_BLOCK):
                content += block
                if len(content) > MOST_BYTES:
                    raise TargetError(f"must unpack to at most {MOST_BYTES >> 20} MB, found more")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise TargetError(f"cannot be read as a property table ({error})") from None
    return bytes(content)
