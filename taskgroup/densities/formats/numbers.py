"""Numbers of text files, as fast as pymatgen reads them and with the slips that Fortran makes repaired."""

import re
from io import BytesIO
from typing import Any

import numpy as np

from taskgroup.densities.reader import refuse

# Fortran writes 1D-05 for double precision ...
_EXPONENT_D = re.compile(rb"(?<=[\d.])[dD](?=[-+]?\d)")
# ... leaves out the E of an exponent with three digits (0.33000-101) ...
_EXPONENT_WITHOUT_E = re.compile(rb"(?<=\d)([-+]\d{3})(?![\d.])")
# ... and leaves no space before a number that fills its column: a sign after an exponent of two or three digits, or
# a sign between two numbers with a point.
_GLUED_TO_EXPONENT = re.compile(rb"([eE][-+]\d{2,3})(?=[-+])")
_GLUED_WITHOUT_EXPONENT = re.compile(rb"(\.\d+)(?=[-+]\d*\.)")
_GLUED_POSITIVE = re.compile(rb"([eE][-+]\d{2})(?=\d\.\d)")
_STARS = re.compile(rb"\*{2,}")


def repaired(text: bytes) -> bytes:
    """Return the text with D exponents, exponents without E and glued numbers written as C would write them.

    >>> repaired(b"1.5D+01 0.33000-101 -0.1E+01-0.2E+01 0.5-0.25")
    b'1.5E+01 0.33000E-101 -0.1E+01 -0.2E+01 0.5 -0.25'
    """
    text = _EXPONENT_D.sub(b"E", text)
    text = _GLUED_TO_EXPONENT.sub(rb"\1 ", text)
    text = _GLUED_POSITIVE.sub(rb"\1 ", text)
    text = _GLUED_WITHOUT_EXPONENT.sub(rb"\1 ", text)
    return _EXPONENT_WITHOUT_E.sub(rb"E\1", text)


def read_numbers(file: BytesIO, wanted: int, source: Any) -> np.ndarray:
    """Return the next ``wanted`` numbers of a text, float64. Raises DensityError if there are fewer."""
    # No public function of pymatgen or numpy reads a given number of values from a stream at this speed (20 million a
    # second; np.loadtxt 1 million), and pymatgen's own readers of CHGCAR are built on this one.
    from pymatgen.optimization.fast_parser import parse_n_doubles

    start = file.tell()
    n_bytes = file.getbuffer().nbytes - start
    # A digit and a space each: a header that promises more is refused before memory is taken for it.
    if 2 * wanted > n_bytes + 1:
        refuse(
            source,
            f"must hold {wanted} values, found at most {n_bytes // 2}: truncated, or a wrong grid",
        )
    values = np.empty(wanted)
    n_read = parse_n_doubles(file, values, wanted)
    if n_read != wanted:
        _refuse_short(file, start, wanted, n_read, source)
    return values


def _refuse_short(file: BytesIO, start: int, wanted: int, n_read: int, source: Any) -> None:
    """Refuse a block with too few numbers; say so if a number did not fit its column."""
    text = file.getvalue()[start:]
    stars = _STARS.search(text)
    if stars and len(text[: stars.start()].split()) <= n_read:
        refuse(
            source,
            f"must hold {wanted} values, found {n_read} before '{stars[0][:20].decode()}': a number did not fit "
            "its column; write the file with a wider format",
        )
    refuse(
        source, f"must hold {wanted} values, found {n_read}: truncated, damaged, or a wrong grid"
    )
