"""Numbers, truth values and missing values in the cells of a property table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Words that pandas, Excel, matminer, LibreOffice and people write where a value is missing; in lower case.
MISSING = frozenset(
    {
        "", "nan", "na", "n/a", "none", "null", "nil", "<na>", "<n/a>", "(null)", "nat", "-", "--", "---", "–", "—",
        "?", "??", ".", "..", "...", "…", "*", "n.a.", "n.a", "n. a.", "n.d.", "nd", "#n/a", "#na", "#n/a n/a", "#nv",
        "#null!", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "-nan", "+nan", "1.#qnan", "-1.#ind", "1.#ind",
        "-1.#qnan", "nan()", "missing", "unknown", "undefined", "not available", "not calculated", "tbd", "void",
    }
)  # fmt: skip
TRUTH = {
    "true": 1.0, "yes": 1.0, "t": 1.0, "y": 1.0, ".true.": 1.0, "on": 1.0, "1": 1.0, "1.0": 1.0,
    "wahr": 1.0, "ja": 1.0, "vrai": 1.0, "oui": 1.0, "verdadero": 1.0, "vero": 1.0,
    "false": 0.0, "no": 0.0, "f": 0.0, "n": 0.0, ".false.": 0.0, "off": 0.0, "0": 0.0, "0.0": 0.0,
    "falsch": 0.0, "nein": 0.0, "faux": 0.0, "non": 0.0, "falso": 0.0,
}  # fmt: skip

# Single letters are truth values in these pairs only.
_LETTERS = ({"t", "f"}, {"y", "n"})

# 1,5 and 1.234,5 and 1 234,5; a comma before three digits may also part thousands, see below
_DECIMAL_COMMA = re.compile(
    r"[+-]?(?:\d+|\d{1,3}(?:[. \u00a0\u202f']\d{3})+)?,\d+(?:[eE][+-]?\d+)?"
)
# 1,234.5 and 1,234,567
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*(?:[eE][+-]?\d+)?)?")
# 1,234: one comma and three digits, which either convention may mean
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[. \u00a0\u202f']\d{3})+")
# 1 234.5: spaces part thousands
_SPACED = re.compile(r"([+-]?\d{1,3}(?:[ \u00a0\u202f]\d{3})+)(\.\d*)?")
# 1.5(2) and 1.5 ± 0.2: a measured value with its uncertainty
_UNCERTAIN = re.compile(r"(\S+?)(?:\(\d+\)|\s*(?:±|\+/-)\s*[\d.]+(?:[eE][+-]?\d+)?)")
# 5 GPa, 50%: a number and its unit
_WITH_UNIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s.,;:+\-<>=~?].*)")
_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_MINUS = str.maketrans({"−": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-"})


@dataclass(frozen=True, eq=False)
class Column:
    """Numbers of a column, NaN where missing.

    ``bad_row`` is the first row whose cell is no number, and ``reason`` says why; -1 where there is none.
    ``has_numbers`` tells a column of text from one with a slip. ``decimal_comma``: its numbers show that convention.
    ``unit`` stands behind each number.
    """

    values: NDArray[np.float64]
    bad_row: int = -1
    reason: str = ""
    has_numbers: bool = True
    decimal_comma: bool = False
    unit: str = ""


def is_missing(text: str) -> bool:
    """Tell if a cell says that its value is missing."""
    return text.lower() in MISSING


def is_number(text: str) -> bool:
    """Tell if a cell holds one number, of any convention."""
    try:
        _plain_number(text)
    except ValueError:
        return _DECIMAL_COMMA.fullmatch(text) is not None or _THOUSANDS.fullmatch(text) is not None
    return True


def read_column(cells: Sequence[str], decimal_comma: bool = False) -> Column:
    """Read the cells of a column; ``decimal_comma`` says that other columns of the table have decimal commas."""
    values = np.full(len(cells), np.nan)
    odd_rows = []
    for row, text in enumerate(cells):
        try:
            values[row] = _plain_number(text)
        except ValueError:
            if not is_missing(text):
                odd_rows.append(row)
    if not odd_rows:
        return Column(values)
    truth = _read_truth(cells)
    if truth is not None:
        return Column(truth)
    with_unit = _read_units(cells)
    if with_unit is not None:
        return with_unit
    return _read_commas(cells, values, odd_rows, decimal_comma)


def _read_units(cells: Sequence[str]) -> Column | None:
    """Return a column whose numbers all have the same text behind them; None for another one."""
    numbers, units = [], set()
    for text in cells:
        if is_missing(text):
            numbers.append("nan")
            continue
        match = _WITH_UNIT.fullmatch(text.translate(_MINUS))
        if match is None:
            return None
        numbers.append(match[1])
        units.add(match[2].strip())
    if len(units) != 1:
        return None
    return Column(np.array(numbers, dtype=float), unit=units.pop())


def _plain_number(text: str) -> float:
    """Return the number in a cell with a decimal point. Raises ValueError."""
    # Python takes underscores, 1_000, which no table means
    if "_" in text:
        raise ValueError(text)
    try:
        value = float(text)
    except ValueError:
        plain = _without_extras(text.translate(_MINUS))
        fortran = _FORTRAN.fullmatch(plain)
        if fortran is not None:
            plain = f"{fortran[1]}e{fortran[2]}"
        value = float(plain)
    return value


def _without_extras(text: str) -> str:
    """Return a number without its uncertainty, and without spaces between thousands where it has a decimal point."""
    uncertain = _UNCERTAIN.fullmatch(text)
    if uncertain is not None:
        text = uncertain[1]
    spaced = _SPACED.fullmatch(text)
    # without a point, 1 234 may stand among decimal commas
    if spaced is not None and spaced[2]:
        text = re.sub(r"\s", "", text)
    return text


def _read_truth(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """Return 0 and 1 for a column of truth values; None for another column."""
    letters = {text.lower() for text in cells if len(text) == 1 and text.isalpha()}
    # F, N and Y are elements too
    if letters and letters not in _LETTERS:
        return None
    values = np.full(len(cells), np.nan)
    for row, text in enumerate(cells):
        word = text.lower()
        if word in TRUTH:
            values[row] = TRUTH[word]
        elif word not in MISSING:
            return None
    return values


def _read_commas(
    cells: Sequence[str], values: NDArray[np.float64], odd_rows: list[int], decimal_comma: bool
) -> Column:
    """Read a column with cells that are no plain numbers: with commas, or with words."""
    has_numbers = bool((~np.isnan(values)).any())
    shows_decimal, shows_thousands = False, False
    for row in odd_rows:
        text = cells[row].translate(_MINUS)
        is_decimal = _DECIMAL_COMMA.fullmatch(text) is not None
        is_thousands = _THOUSANDS.fullmatch(text) is not None
        is_grouped = _GROUPED.fullmatch(text) is not None
        if not (is_decimal or is_thousands or is_grouped):
            reason = f"needs a number, got '{text[:60]}'"
            return Column(values, row, reason, has_numbers)
        shows_decimal |= is_decimal and not is_thousands
        shows_thousands |= is_thousands and not is_decimal
    first = odd_rows[0]
    if shows_decimal and shows_thousands:
        return Column(values, first, "mixes decimal commas and commas between thousands")
    if not (shows_decimal or shows_thousands or decimal_comma):
        number = cells[first]
        reason = f"'{number}' may be {number.replace(',', '.')} or {number.replace(',', '')}"
        return Column(values, first, f"{reason}: write it without the comma")
    has_decimal_commas = not shows_thousands
    is_odd = np.isin(np.arange(len(cells)), odd_rows)
    for row, text in enumerate(cells):
        plain = text.translate(_MINUS)
        if has_decimal_commas and _is_ambiguous_point(plain):
            reason = f"'{text}' stands among decimal commas, so its point may part thousands"
            return Column(values, row, reason)
        if is_odd[row]:
            values[row] = _number_with_commas(plain, has_decimal_commas)
    return Column(values, decimal_comma=shows_decimal)


def _is_ambiguous_point(text: str) -> bool:
    return re.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}", text) is not None


def _number_with_commas(text: str, decimal_comma: bool) -> float:
    if not decimal_comma:
        return float(text.replace(",", ""))
    digits = re.sub(r"[. \u00a0\u202f']", "", text)
    return float(digits.replace(",", "."))
