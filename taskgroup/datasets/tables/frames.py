"""Property tables in memory: data frames of pandas, understood by the same rules as files."""

from typing import TYPE_CHECKING, Any

from taskgroup.datasets.tables.formats import table_of_frame
from taskgroup.datasets.tables.headers import usual_id_columns
from taskgroup.datasets.tables.raw import RawTable

if TYPE_CHECKING:
    import pandas as pd

# Name of the ids where the frame has none: the numbers of the rows.
_ROW_NUMBER = "row"


def is_frame(table: Any) -> bool:
    """Return whether a table is a data frame."""
    return hasattr(table, "itertuples")


def stored_targets(frame: "pd.DataFrame") -> dict[str, dict[str, str]] | None:
    """Return what ``TargetTable.frame`` has stored of its targets; None where a column of numbers is not from there."""
    stored = frame.attrs.get("targets", {})
    of_others = frame.drop(columns=[name for name in stored if name in frame])
    if not of_others.select_dtypes(["number", "bool"]).empty:
        return None
    return {name: stored[name] for name in frame.columns if name in stored} or None


def raw_frame(frame: "pd.DataFrame", id_column: str | None) -> tuple[RawTable, str]:
    """Return the cells of a frame as text, and the name of the column of ids among them.

    By default the ids are the index; where that only counts the rows, a column with a usual name of ids and without
    repetitions, or else the numbers of the rows.
    """
    frame, id_column = _with_ids(frame, id_column)
    return table_of_frame(frame), id_column


def _with_ids(frame: "pd.DataFrame", id_column: str | None) -> tuple["pd.DataFrame", str]:
    import pandas as pd

    if id_column is not None:
        return frame, id_column
    is_counter = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    if not is_counter:
        return frame, str(frame.index.name or "")
    for number in usual_id_columns([str(name) for name in frame.columns]):
        ids = frame.iloc[:, number]
        if ids.is_unique and ids.notna().all():
            return frame, str(frame.columns[number])
    return frame.rename_axis(_ROW_NUMBER), _ROW_NUMBER
