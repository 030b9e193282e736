"""What reads one kind of source, and how it is found.

A new format is a subclass of Reader in a file of its own and one import line in ``read.py``; a package of its own names
its reader class under the entry-point group ``taskgroup.readers``. ``taskgroup.densities.testing`` holds the tests that
every reader must pass.
"""

import bz2
import gzip
import lzma
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from taskgroup.densities.density import Density
from taskgroup.errors import DensityError

_OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


class Reader(ABC):
    """Reads one kind of source into a Density; the electron count is checked by ``read_density``, not here."""

    name: ClassVar[str]  # what it reads, in a word or two, for messages

    @abstractmethod
    def suits(self, source: Any) -> bool:
        """Whether this reader takes the source, by the name of a path or the kind of an object; opens nothing."""

    @abstractmethod
    def read(self, source: Any) -> Density:
        """The density, in e/Å^3. Raises DensityError, in one line that names the source, where it cannot be read."""


def bare_name(path: Path) -> str:
    """The file's name without the suffix of its compression."""
    return path.name.removesuffix(path.suffix) if path.suffix in _OPENERS else path.name


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed where its name ends in .gz, .xz or .bz2."""
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise DensityError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DensityError(f"{path}: cannot be read, truncated or damaged ({error})") from None
    if not content.strip():
        refuse(path, "must hold a density, found an empty file")
    if b"\0" in content:
        refuse(path, "must be text, found binary content")
    return content


def one_line(error: Exception) -> str:
    """What another library's error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse(source: Any, rule: str) -> NoReturn:
    """Refuse a source: the message names it, the rule and what was found."""
    raise DensityError(f"{source}: {rule}")
