"""Files of property tables: which library reads which, and how large they may be.

Compression and text are known by content, spreadsheets and Parquet by name and content. Nothing is unpickled.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.datasets.tables.json_table import read_json_table
from taskgroup.datasets.tables.raw import MOST_COLUMNS, RawTable, table_of_rows
from taskgroup.datasets.tables.text import read_text_table
from taskgroup.datasets.tables.unpack import read_unpacked
from taskgroup.densities.compression import bare_name
from taskgroup.errors import MissingDependency, TargetError, TaskgroupError

if TYPE_CHECKING:
    import pandas as pd


# Unpacked bytes of a spreadsheet: a million cells take 50 MB of XML.
_MOST_SPREADSHEET_BYTES = 200 << 20
# Cells of a Parquet table: its file says how many it unpacks to.
_MOST_CELLS = 50_000_000


def read_table(path: Path) -> RawTable:
    """Read a file as a table of text. Raises TargetError, naming the file; MissingDependency: a package is missing."""
    if not path.is_file():
        raise TargetError(f"{path}: no such property table")
    suffix = table_suffix(path)
    reader = _READERS.get(suffix)
    if reader is None:
        raise TargetError(
            f"{path}: a property table is .csv, .tsv, .txt, .xlsx, .parquet, .json, .jsonl, "
            f"or of ASE (.db, .extxyz), got '{suffix}'"
        )
    try:
        return reader(path)
    except TargetError as error:
        raise TargetError(f"{path}: {error}") from None
    except TaskgroupError:
        raise
    # Parsers raise what they meet, of any kind: the file is refused, and nothing else.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TargetError(f"{path}: cannot be read as a property table ({reason})") from error


def table_suffix(path: Path) -> str:
    """Return the ending that tells the format, in lower case and without that of a compression."""
    return Path(bare_name(path.name)).suffix.lower()


def _read_text(path: Path) -> RawTable:
    return read_text_table(read_unpacked(path), path)


def _read_json(path: Path) -> RawTable:
    return read_json_table(read_unpacked(path))


def _read_parquet(path: Path) -> RawTable:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    _check_columns(metadata.num_columns)
    if metadata.num_rows * metadata.num_columns > _MOST_CELLS:
        raise TargetError(
            f"must have at most {_MOST_CELLS} cells, found {metadata.num_rows} rows "
            f"of {metadata.num_columns}"
        )
    # Arrow's threads, where any were started, abort a process that ends soon after
    frame = pq.read_table(path, use_threads=False).to_pandas(use_threads=False)
    return table_of_frame(frame)


def _read_feather(path: Path) -> RawTable:
    import pyarrow.feather

    return table_of_frame(pyarrow.feather.read_table(path).to_pandas(use_threads=False))


def table_of_frame(frame: "pd.DataFrame") -> RawTable:
    """Turn a data frame into text; its index is a column, but for one that only counts."""
    import pandas as pd

    is_counter = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    if not is_counter:
        # a column may have the name of the index
        names = [name or "" for name in frame.index.names]
        index = frame.index.to_frame(index=False)
        index.columns = names
        frame = pd.concat([index, frame.reset_index(drop=True)], axis=1)
    _check_columns(len(frame.columns))
    rows = [list(row) for row in frame.itertuples(index=False, name=None)]
    return table_of_rows([_label(label) for label in frame.columns], rows)


def _label(label: Any) -> str:
    if isinstance(label, tuple):
        return " ".join(str(part) for part in label if str(part))
    return str(label)


def _check_columns(n_columns: int) -> None:
    if n_columns > MOST_COLUMNS:
        raise TargetError(f"must have at most {MOST_COLUMNS} columns, found {n_columns}")


def _read_excel(path: Path) -> RawTable:
    # a spreadsheet is a zip archive itself, so it is not unpacked like the others
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(entry.file_size for entry in archive.infolist())
    if n_bytes > _MOST_SPREADSHEET_BYTES:
        raise TargetError(
            f"must unpack to at most {_MOST_SPREADSHEET_BYTES >> 20} MB, found {n_bytes >> 20} MB"
        )
    try:
        import openpyxl
    except ImportError:
        raise MissingDependency(
            f"{path}: Excel tables are read by openpyxl: pip install 'taskgroup-materials[excel]'"
        ) from None
    # read-only: a row at a time; values only: what Excel calculated, not its formulas
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        return _table_of_book(book)
    finally:
        book.close()


def _table_of_book(book: Any) -> RawTable:
    """Take the first sheet that holds a table; others are named in a note."""
    tables, names = [], []
    for sheet in book.worksheets:
        if sheet.max_column is not None:
            _check_columns(sheet.max_column)
        rows = [list(row) for row in sheet.iter_rows(values_only=True)]
        filled = [row for row in rows if any(cell is not None for cell in row)]
        if len(filled) > 1:
            tables.append(filled)
            names.append(sheet.title)
    if not tables:
        raise TargetError("cannot be read as a property table (no sheet has a header and a row)")
    notes = []
    if len(tables) > 1:
        notes.append(f"sheet '{names[0]}' is read, not {', '.join(names[1:6])}")
    header, *rows = tables[0]
    width = max(number for number, cell in enumerate(header, start=1) if cell is not None)
    n_cut = sum(any(cell is not None for cell in row[width:]) for row in rows)
    if n_cut:
        notes.append(f"cells of {n_cut} rows stand in columns without a header: left out")
    return table_of_rows(header[:width], [row[:width] for row in rows], notes=notes)


def _read_old_excel(path: Path) -> RawTable:
    raise TargetError("is an Excel file of before 2007: save it as .xlsx or .csv")


def _read_ase(path: Path) -> RawTable:
    from taskgroup.datasets.tables.ase_table import read_ase_table

    return read_ase_table(path)


_READERS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".tab": _read_text,
    ".txt": _read_text,
    ".dat": _read_text,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".feather": _read_feather,
    ".arrow": _read_feather,
    ".xlsx": _read_excel,
    ".xlsm": _read_excel,
    ".xls": _read_old_excel,
    ".db": _read_ase,
    ".extxyz": _read_ase,
    ".xyz": _read_ase,
}
