"""A property table as it stands in a file: headers and cells of text, nothing understood yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskgroup.errors import TargetError

# More is an accident, such as a descriptor matrix or a table that lies on its side.
MOST_COLUMNS = 5_000
MOST_ROWS = 5_000_000


@dataclass(frozen=True, eq=False)
class RawTable:
    """Headers, and the cells of each column; all are stripped text, '' where a cell is empty.

    ``first_row`` is the number that people give the first row of cells in the file, to name rows by.
    ``has_header``: False where the names are ours. ``notes`` tell what was guessed of the file; ``left_out`` names
    damaged rows, each with its reason.
    """

    headers: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    has_header: bool = True
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def row(self, number: int) -> tuple[str, ...]:
        """Return the cells of one row."""
        return tuple(column[number] for column in self.columns)

    def rows(self, numbers: Sequence[int]) -> "RawTable":
        """Return these rows only."""
        columns = tuple(tuple(column[i] for i in numbers) for column in self.columns)
        return replace(self, columns=columns)


def table_of_rows(
    headers: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    has_header: bool = True,
    notes: Sequence[str] = (),
    left_out: Sequence[tuple[str, str]] = (),
) -> RawTable:
    """Make a table of rows; short ones are filled up with empty cells. Raises TargetError: too large, or empty."""
    if len(headers) > MOST_COLUMNS:
        raise TargetError(f"must have at most {MOST_COLUMNS} columns, found {len(headers)}")
    if len(rows) > MOST_ROWS:
        raise TargetError(f"must have at most {MOST_ROWS} rows, found {len(rows)}")
    if not headers or not rows:
        raise TargetError("cannot be read as a property table (it has no rows)")
    texts = [[text_of(cell) for cell in row] for row in rows]
    filled = [row + [""] * (len(headers) - len(row)) for row in texts]
    columns = tuple(zip(*filled, strict=True))
    names = tuple(text_of(header) for header in headers)
    return RawTable(names, columns, has_header, tuple(notes), tuple(left_out))


def text_of(cell: Any) -> str:
    """Return a cell as text: '' where it is empty, and whole numbers without a point."""
    if isinstance(cell, str):
        # messages quote cells, and have one line
        return " ".join(cell.split()) if "\n" in cell else cell.strip()
    # what pandas writes for missing is not even comparable with itself
    if cell is None or str(cell) == "<NA>" or cell != cell:
        return ""
    # spreadsheets and JSON keep ids such as 12 as 12.0
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return str(cell).strip()
