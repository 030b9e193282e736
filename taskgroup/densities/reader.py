"""The base class of all readers, and what they share: file content, its name, and how a source is refused.

A new format is a subclass of Reader in a file of its own and one line in ``read.py``; a package of its own names its
reader class under the entry-point group ``taskgroup.readers``. ``taskgroup.densities.testing`` holds the tests that
every reader must pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NoReturn

from taskgroup.densities.compression import bare_name as _without_compression
from taskgroup.densities.compression import (
    compression_of,
    damage_errors,
    decompress,
    open_plain,
    read_file,
)
from taskgroup.densities.density import Density
from taskgroup.errors import DensityError, TaskgroupError


@dataclass(frozen=True)
class Member:
    """One file of an archive, already in memory: readers take it in place of a path."""

    archive: str
    name: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


class Reader(ABC):
    """Reads one kind of source into a Density; the electron count is checked by ``read_density``, not here."""

    #: What it reads, in a few words, for messages.
    name: ClassVar[str]

    @abstractmethod
    def suits(self, source: Any) -> bool:
        """Return whether this reader takes the source, by its name, the kind of an object or its first bytes."""

    def may_suit(self, name: str) -> bool:
        """Return whether a file of this name may be one to read; ``suits`` then decides, if need be by its content."""
        return self.suits(Member("", name, b""))

    @abstractmethod
    def read(self, source: Any) -> Density:
        """Return the density in e/Å^3. Raises DensityError, in one line that names the source, if it is damaged."""

    def read_frame(self, source: Any, frame: int) -> Density:
        """Return the density of one of several configurations in one source; -1 is the last."""
        if frame not in (0, -1):
            refuse(source, f"holds one configuration (frame 0), found a request for frame {frame}")
        return self.read(source)


class MarkedReader(Reader):
    """For formats whose file names say too little: a mark near the beginning of the content decides."""

    suffix: ClassVar[str]
    mark: ClassVar[bytes]
    #: Bytes from the beginning in which the mark stands.
    start_bytes: ClassVar[int]

    def may_suit(self, name: str) -> bool:
        return _without_compression(name).lower().endswith(self.suffix)

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        if name is None or not self.may_suit(name):
            return False
        return self.mark in _start(source, self.start_bytes)


def _start(source: "Path | Member", n_bytes: int) -> bytes:
    """Return the beginning of a file, and nothing if it cannot be read: then another reader may say why."""
    try:
        if isinstance(source, Member):
            return decompress(source.content, str(source))[:n_bytes]
        with open_plain(source) as stream:
            return stream.read(n_bytes)
    except (TaskgroupError, *damage_errors()):
        return b""


def bare_name(source: Any) -> str | None:
    """Return the name of a path or archive member without the endings of compression; None for other objects.

    >>> bare_name(Path("runs/mp-1.CHGCAR.lz4"))
    'mp-1.CHGCAR'
    """
    if isinstance(source, Path):
        return _without_compression(source.name)
    if isinstance(source, Member):
        return _without_compression(PurePosixPath(source.name).name)
    return None


def read_bytes(source: Path | Member) -> bytes:
    """Return the decompressed content of a text file. Raises DensityError if it is missing, damaged or binary."""
    content = read_content(source)
    if b"\0" in content:
        refuse(source, "must be text, found binary content")
    return content


def read_content(source: Path | Member) -> bytes:
    """Return the decompressed content of any file. Raises DensityError if it is missing, damaged or empty."""
    is_member = isinstance(source, Member)
    content = decompress(source.content, str(source)) if is_member else read_file(source)
    if not content.strip():
        refuse(source, "must hold a density, found an empty file")
    return content


@contextmanager
def local_file(source: Path | Member) -> Iterator[Path]:
    """Give libraries that open files themselves a plain one: the source, or a temporary copy where it is packed.

    Raises DensityError if it is missing, damaged or empty.
    """
    if isinstance(source, Path) and _is_plain(source):
        yield source
        return
    content = read_content(source)
    with TemporaryDirectory() as folder:
        path = Path(folder) / (bare_name(source) or "density")
        path.write_bytes(content)
        yield path


def _is_plain(path: Path) -> bool:
    """Return whether a file is there, not empty and not compressed."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        # reading it again says why
        return False
    return bool(start) and compression_of(start) is None


def one_line(error: BaseException) -> str:
    """Return the message of another library's error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse(source: Any, rule: str) -> NoReturn:
    """Raise a DensityError that names the source, the rule and what was found."""
    raise DensityError(f"{source}: {rule}")
