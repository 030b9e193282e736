"""Content of a table's file, unpacked where it is compressed, up to a limit."""

from pathlib import Path

from taskgroup.densities.compression import damage_errors, open_plain
from taskgroup.errors import DensityError, TargetError

# Bytes of a table, unpacked: a million rows of twenty columns. A few packed megabytes may hold thousands.
MOST_BYTES = 200 << 20
_BLOCK = 1 << 20


def read_unpacked(path: Path) -> bytes:
    """Return the content of a file; compression is known by content. Raises TargetError: too large, or damaged."""
    content = bytearray()
    try:
        with open_plain(path) as stream:
            while block := stream.read(_BLOCK):
                content += block
                if len(content) > MOST_BYTES:
                    raise TargetError(f"must unpack to at most {MOST_BYTES >> 20} MB, found more")
    except (DensityError, *damage_errors()) as error:
        if isinstance(error, TargetError):
            raise
        raise TargetError(f"cannot be read as a property table ({error})") from None
    return bytes(content)
