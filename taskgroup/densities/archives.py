"""Archives of densities, as datasets come: tar and zip files, read member by member and never unpacked as a whole.

>>> for member in members(Path("CHGCARs.tar.gz")):     # doctest: +SKIP
...     density = read_density(member)

A member may itself be compressed (``mp-1.CHGCAR.lz4`` in a tar). Nothing is written to disk, so names such as
``../../etc/passwd`` do no harm; links and other special members are left out.
"""

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from taskgroup.densities.compression import (
    MOST_BYTES,
    bare_name,
    damage_errors,
    damaged,
    open_plain,
    read_limited,
)
from taskgroup.densities.reader import Member
from taskgroup.errors import DensityError

# The word "ustar" stands at this place of every tar header since 1988.
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_PLACE = 257
_HEADER_BYTES = 512
_ZIP_MAGIC = b"PK\x03\x04"
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar archive (compressed or not) or a zip file with other than one member, by content.

    Raises DensityError if the file cannot be read.
    """
    if _starts_with_zip(path):
        return _is_zip_of_several(path)
    with open_plain(path) as stream:
        try:
            start = stream.read(_HEADER_BYTES)
        except damage_errors() as error:
            raise damaged(str(path), error) from None
    return start[_TAR_MAGIC_PLACE:].startswith(_TAR_MAGIC)


def is_archive_name(name: str) -> bool:
    """Return whether a file's name is that of a tar archive, compressed or not.

    >>> is_archive_name("CHGCARs.tar.gz"), is_archive_name("CHGCAR.gz")
    (True, False)
    """
    return bare_name(name).lower().endswith(_ARCHIVE_SUFFIXES)


def members(path: Path, wanted: Callable[[str], bool] | None = None) -> Iterator[Member]:
    """Yield the files of a tar or zip archive in their order, one in memory at a time.

    ``wanted``: a condition on the name within the archive; the content of others is skipped. Raises DensityError where
    the archive is damaged or a member larger than the limit of ``compression``; what came before has been yielded.
    """
    try:
        if _starts_with_zip(path):
            yield from _zip_members(path, wanted)
        else:
            yield from _tar_members(path, wanted)
    except DensityError:
        raise
    except (*damage_errors(), tarfile.TarError) as error:
        raise damaged(str(path), error) from None


def _tar_members(path: Path, wanted: Callable[[str], bool] | None) -> Iterator[Member]:
    # "r|": a stream without going back, so that the archive is decompressed once.
    with open_plain(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            if not entry.isfile() or (wanted is not None and not wanted(entry.name)):
                continue
            where = f"{path}/{entry.name}"
            _check_size(entry.size, where)
            file = archive.extractfile(entry)
            if file is not None:
                yield Member(str(path), entry.name, read_limited(file, where, entry.size))


def _zip_members(path: Path, wanted: Callable[[str], bool] | None) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or (wanted is not None and not wanted(entry.filename)):
                continue
            where = f"{path}/{entry.filename}"
            with archive.open(entry) as file:
                content = read_limited(file, where, entry.compress_size)
            yield Member(str(path), entry.filename, content)


def _check_size(size: int, where: str) -> None:
    """Refuse a member whose header promises more than is read, before anything is."""
    if size > MOST_BYTES:
        raise DensityError(
            f"{where}: must hold at most {MOST_BYTES / 1024**2:.0f} MB, found {size / 1024**2:.0f} MB"
        )


def _starts_with_zip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    except FileNotFoundError:
        raise DensityError(f"{path}: no such file") from None
    except OSError as error:
        raise damaged(str(path), error) from None


def _is_zip_of_several(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise damaged(str(path), error) from None
    return len(files) != 1
