"""Archives of densities, as datasets come: tar and zip files, read member by member and never unpacked as a whole.

>>> for member in members(Path("CHGCARs.tar.gz")):     # doctest: +SKIP
...     density = read_density(member)

A member may itself be compressed (``mp-1.CHGCAR.lz4`` in a tar). Nothing is written to disk, so names such as
``../../etc/passwd`` do no harm; links and other special members are left out.

A path may lead into an archive: ``CHGCARs.tar.gz/mp-1.CHGCAR.lz4``. Paths that are read in the order of the archive
are read in one pass.
"""

import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

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


def is_archive_path(path: Path) -> bool:
    """Return whether a path leads to an archive, by name and content. Raises DensityError if it cannot be read."""
    named_so = is_archive_name(path.name) or path.name.lower().endswith(".zip")
    return named_so and path.is_file() and is_archive(path)


def archive_stem(name: str) -> str:
    """Return a file's name without the endings of an archive.

    >>> archive_stem("mp-1.tar.gz"), archive_stem("mp-1.tgz"), archive_stem("mp-1.static")
    ('mp-1', 'mp-1', 'mp-1.static')
    """
    bare = bare_name(name)
    for suffix in _ARCHIVE_SUFFIXES:
        if bare.lower().endswith(suffix):
            return bare[: -len(suffix)]
    return bare if name.lower().endswith(".zip") else name


def members(path: Path, wanted: Callable[[str], bool] | None = None) -> Iterator[Member]:
    """Yield the files of a tar or zip archive in their order, one in memory at a time.

    ``wanted``: a condition on the name within the archive; the content of others is skipped. Raises DensityError where
    the archive is damaged or a member larger than the limit of ``compression``; what came before has been yielded.
    """
    for name, read in entries(path):
        if wanted is None or wanted(name):
            yield Member(str(path), name, read())


def entries(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each file in an archive, and a function that reads it before the next one is asked for."""
    try:
        found = _zip_entries(path) if _starts_with_zip(path) else _tar_entries(path)
        yield from found
    except DensityError:
        raise
    except (*damage_errors(), tarfile.TarError) as error:
        raise damaged(str(path), error) from None


def _tar_entries(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    # "r|": a stream without going back, so that the archive is decompressed once.
    with open_plain(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            if entry.isfile():
                where = f"{path}/{entry.name}"
                yield entry.name, partial(_read_tar_entry, archive, entry, where)


def _read_tar_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, where: str) -> bytes:
    _check_size(entry.size, where)
    try:
        file = archive.extractfile(entry)
        return read_limited(file, where, entry.size)
    except (*damage_errors(), tarfile.TarError) as error:
        raise damaged(where, error) from None


def _zip_entries(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                where = f"{path}/{entry.filename}"
                yield entry.filename, partial(_read_zip_entry, archive, entry, where)


def _read_zip_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    _check_size(entry.file_size, where)
    try:
        with archive.open(entry) as file:
            return read_limited(file, where, entry.compress_size)
    except (*damage_errors(), NotImplementedError) as error:
        raise damaged(where, error) from None


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into; None where it leads into none.

    >>> archive_of(Path("nothing/CHGCAR"))
    """
    for parent in path.parents:
        named_so = is_archive_name(parent.name) or parent.name.lower().endswith(".zip")
        if named_so and parent.is_file():
            return parent
    return None


def read_member(path: Path, archive: Path) -> Member:
    """Return the file that a path into an archive leads to. Raises DensityError: it is not there, or damaged."""
    status = archive.stat()
    cursor = _cursor(archive, status.st_mtime_ns, status.st_size)
    return cursor.read(_plain_name(str(path)[len(str(archive)) :]))


def _plain_name(name: str) -> str:
    """Return a name as a path has it: without ``./`` and repeated or leading strokes."""
    return str(PurePosixPath(name.lstrip("/")))


class _Cursor:
    """A place in an archive: what is read in its order is read in one pass, anything before it begins another one."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._entries: Iterator[tuple[str, Callable[[], bytes]]] | None = None

    def read(self, name: str) -> Member:
        with self._lock:
            goes_on = self._entries is not None
            member = self._find(name)
            if member is None and goes_on:
                self._entries = None
                member = self._find(name)
        if member is None:
            raise DensityError(f"{self._archive}/{name}: no such file in the archive")
        return member

    def _find(self, name: str) -> Member | None:
        """Return the next file of this name; None where there is none after the present place."""
        if self._entries is None:
            self._entries = entries(self._archive)
        for found, read in self._entries:
            if _plain_name(found) == name:
                return Member(str(self._archive), name, read())
        return None


# Each process works on one archive at a time; an archive that was changed is another one.
@lru_cache(maxsize=1)
def _cursor(archive: Path, changed: int, size: int) -> _Cursor:
    return _Cursor(archive)


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
