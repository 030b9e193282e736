"""Tables of text: CSV as pandas, Excel and people of all countries write it."""

import codecs
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from taskgroup.datasets.tables.cells import is_missing, is_number
from taskgroup.datasets.tables.headers import is_id_name
from taskgroup.datasets.tables.raw import MOST_COLUMNS, RawTable, table_of_rows
from taskgroup.errors import TargetError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # before UTF-16, whose mark is a part of it
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = (",", ";", "\t", "|")
# Lines from which separator and header are guessed.
_SAMPLE = 100
# Share of the rows.
_MOST_TOO_LONG = 0.2
# No text holds this control character.
_END = "\x04"
# A cell of a property table is no longer; without a limit a stray quote swallows the file.
_LONGEST_CELL = 1 << 17


def read_text_table(content: bytes, path: Path) -> RawTable:
    """Read a table of text. Raises TargetError: it is none."""
    text, notes = _decode(content)
    # not splitlines, which also cuts at letters that may stand in a name
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[0].strip():
        lines = lines[1:]
    separator = None
    # Excel's own hint
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) == 5:
        separator = lines[0][4]
        lines = lines[1:]
    lines, comment = _without_comments(lines)
    if not lines:
        raise _unreadable("it is empty")
    if separator is None:
        separator = _guess_separator(lines[:_SAMPLE])
    if _has_open_quote(lines, separator):
        raise _unreadable("a quotation mark is not closed")
    rows = _split(lines, separator)
    if separator == " ":
        notes.append("columns are separated by spaces")
    elif separator not in (",", "\t"):
        notes.append(f"columns are separated by '{separator}'")
    header = rows[0]
    if _is_header(header, rows[1:_SAMPLE]):
        return _table(header, rows[1:], True, notes)
    if comment:
        named = _split([comment], separator)[0]
        if len(named) == len(header):
            return _table(named, rows, True, notes)
    names = _made_names(len(header), path)
    notes.append(f"the table has no header: its columns are called {', '.join(names[:5])}")
    return _table(names, rows, False, notes)


def _decode(content: bytes) -> tuple[str, list[str]]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            try:
                return _checked(content.decode(encoding)), []
            except UnicodeDecodeError as error:
                raise _unreadable(f"its text is damaged, {error.reason}") from None
    # UTF-16 without a mark: every other byte of plain letters is zero
    sample = content[:4096]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        other_bytes = sample[start::2]
        if len(sample) >= 4 and other_bytes.count(0) > 0.8 * len(other_bytes):
            return _checked(content.decode(encoding, errors="replace")), [f"read as {encoding}"]
    try:
        return _checked(content.decode("utf-8")), []
    except UnicodeDecodeError:
        pass
    try:
        text, encoding = content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        text, encoding = content.decode("latin-1"), "Latin-1"
    return _checked(text), [f"the text is no UTF-8: read as {encoding}"]


def _checked(text: str) -> str:
    # control characters other than tab and line ends: no text
    sample = text[:65536]
    n_control = sum(ord(letter) < 32 and letter not in "\t\r\n\f\v" for letter in sample)
    if "\0" in text or n_control > 0.01 * len(sample):
        raise _unreadable("it holds binary content")
    return text


def _unreadable(reason: str) -> TargetError:
    return TargetError(f"cannot be read as a property table ({reason})")


def _without_comments(lines: list[str]) -> tuple[list[str], str]:
    """Cut off the lines at the top that begin with '#'; the last of them may hold the header."""
    comment = ""
    start = 0
    while start < len(lines) and lines[start].lstrip().startswith("#"):
        comment = lines[start].lstrip().lstrip("#").strip()
        start += 1
    # a header such as "#id,K" is the only line of its kind
    if start == 1 and any(separator in comment for separator in _SEPARATORS):
        return [comment, *lines[1:]], ""
    return lines[start:], comment


def _guess_separator(lines: Sequence[str]) -> str:
    """Return the separator that cuts most lines into the same number of cells, two or more."""
    best, best_score = ",", (0.0, 0)
    for separator in _SEPARATORS:
        counts = Counter(len(row) for row in _split(lines, separator) if row)
        if not counts:
            continue
        n_cells, n_lines = counts.most_common(1)[0]
        share = n_lines / sum(counts.values())
        # a lone column is cut evenly by anything that is not in it
        score = (share if n_cells > 1 else 0.0, n_cells)
        if score > best_score:
            best, best_score = separator, score
    n_words = {len(line.split()) for line in lines if line.strip()}
    if best_score[0] == 0 and len(n_words) == 1 and n_words != {1}:
        return " "
    return best


def _split(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Cut lines into cells; a cell in quotes may run over several lines."""
    if separator == " ":
        return [line.split() for line in lines if line.strip()]
    csv.field_size_limit(_LONGEST_CELL)
    with_ends = (line + "\n" for line in lines)
    try:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(with_ends, delimiter=separator, skipinitialspace=True)
        ]
    except csv.Error as error:
        raise _unreadable(str(error)) from None
    return [row for row in rows if row]


def _has_open_quote(lines: Sequence[str], separator: str) -> bool:
    """Tell if a quotation mark has no partner: it would swallow a line behind the last one, as it did others."""
    return _split([*lines, _END], separator)[-1] != [_END]


def _is_header(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell a header from a row of data: beyond its first cell it holds no measured number."""
    if any(is_id_name(cell) for cell in cells):
        return True
    numbers = [cell for cell in cells[1:] if not is_missing(cell) and is_number(cell)]
    if not numbers:
        return True
    # columns of a matrix are called 0, 1, 2, ...
    if numbers == [str(number) for number in range(len(numbers))] and any(
        len(row) > 1 and row[1] != cells[1] for row in rows
    ):
        return "." in "".join("".join(row[1:]) for row in rows)
    return False


def _made_names(n_columns: int, path: Path) -> list[str]:
    # CGCNN's id_prop.csv: an id and one property
    if n_columns == 2:
        return ["id", "property"]
    return ["id", *(f"property_{number}" for number in range(1, n_columns))]


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], has_header: bool, notes: list[str]
) -> RawTable:
    if len(header) > MOST_COLUMNS:
        raise TargetError(f"must have at most {MOST_COLUMNS} columns, found {len(header)}")
    width = len(header)
    body, n_short = [], 0
    too_long: list[tuple[str, str]] = []
    for number, row in enumerate(rows, start=1):
        # spreadsheets end rows with empty cells
        while len(row) > width and not row[-1]:
            row = row[:-1]
        if len(row) > width:
            reason = (
                f"{len(row)} cells for {width} columns: a decimal comma, or a comma without quotes?"
            )
            too_long.append((f"row {number}", reason))
            continue
        n_short += len(row) < width
        body.append(row)
    # many of them come from decimal commas, which put numbers into other columns
    if len(too_long) > _MOST_TOO_LONG * len(rows):
        raise _unreadable(" has ".join(too_long[0]))
    if n_short:
        notes.append(f"{n_short} rows have fewer cells than the header: filled up as missing")
    return table_of_rows(header, body, has_header=has_header, notes=notes, left_out=too_long)
