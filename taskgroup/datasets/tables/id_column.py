"""Which column of a property table names its rows."""

from collections.abc import Sequence

from taskgroup.datasets.tables.cells import is_missing, is_number
from taskgroup.datasets.tables.headers import (
    ID_COLUMNS,
    is_nameless,
    normal_name,
    usual_id_columns,
)
from taskgroup.datasets.tables.raw import RawTable
from taskgroup.errors import TargetError, did_you_mean

_SHOWN = 12


def find_id_column(raw: RawTable, asked: str | None) -> int:
    """Return the number of the column of ids. Raises TargetError: there is none, or not the one asked for."""
    if asked is not None:
        return _asked_id_column(raw, asked)
    if not raw.has_header:
        return 0
    usual = usual_id_columns(raw.headers)
    candidates = [number for number in usual if not _holds_objects(raw.columns[number])]
    for number in candidates:
        ids = [cell for cell in raw.columns[number] if cell]
        if ids and len(set(ids)) == len(ids):
            return number
    if candidates:
        return candidates[0]
    # pandas writes an index of ids as a column without a name
    for number, header in enumerate(raw.headers):
        cells = raw.columns[number]
        if is_nameless(header) and all(cells[1:]) and not is_counter(cells):
            return number
    found = ", ".join(raw.headers[:_SHOWN])
    texts = [
        header for header, cells in zip(raw.headers, raw.columns, strict=True) if _are_names(cells)
    ]
    likely = f"; the texts of '{texts[0]}' are all different" if texts else ""
    raise TargetError(
        f"no id column: name one of {', '.join(ID_COLUMNS[:7])}, ..., or say which it is "
        f"(--id-column); found {found}{likely}"
    )


def _holds_objects(cells: Sequence[str]) -> bool:
    """Tell if a column holds lists or mappings of JSON, such as structures."""
    return bool(cells) and cells[0] in ("<dict>", "<list>")


def _are_names(cells: Sequence[str]) -> bool:
    """Tell if a column may name the rows: a different text in each, no numbers."""
    are_texts = all(cell and not is_missing(cell) and not is_number(cell) for cell in cells)
    return are_texts and len(set(cells)) == len(cells) and not _holds_objects(cells)


def _asked_id_column(raw: RawTable, asked: str) -> int:
    if asked in raw.headers:
        return raw.headers.index(asked)
    same = [normal_name(header) == normal_name(asked) for header in raw.headers]
    if sum(same) == 1:
        return same.index(True)
    raise TargetError(f"no id column '{asked}'; {did_you_mean(asked, raw.headers[:200])}")


def is_counter(cells: Sequence[str]) -> bool:
    """Tell if cells count the rows from 0 or 1."""
    if not cells or cells[0] not in ("0", "1"):
        return False
    first = int(cells[0])
    return all(cell == str(number) for number, cell in enumerate(cells, start=first))
