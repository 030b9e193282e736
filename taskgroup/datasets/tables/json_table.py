"""Tables in JSON: lists of records, JSON lines, and what ``DataFrame.to_json`` writes in each orientation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskgroup.datasets.tables.headers import is_id_name
from taskgroup.datasets.tables.raw import MOST_COLUMNS, RawTable, table_of_rows
from taskgroup.errors import TargetError

_FORMS = "records [{column: value}], JSON lines, or what DataFrame.to_json writes"


def read_json_table(content: bytes) -> RawTable:
    """Read a table in JSON. Raises TargetError: it is none."""
    text = content.decode("utf-8-sig", errors="replace").strip()
    try:
        data = json.loads(text)
    except RecursionError:
        raise TargetError("cannot be read as a property table (its JSON nests too deep)") from None
    except ValueError as error:
        records, damaged = _read_lines(text, error)
        return replace(_of_records(records), left_out=tuple(damaged))
    if isinstance(data, list):
        return _of_list(data)
    if isinstance(data, dict):
        return _of_mapping(data)
    raise TargetError(f"JSON must be {_FORMS}, found {type(data).__name__}")


def _read_lines(text: str, error: ValueError) -> tuple[list[Any], list[tuple[str, str]]]:
    """Return the records of JSON lines, and the damaged ones with reasons; ``error``: why the whole is no JSON."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not lines[0].lstrip().startswith(("{", "[")):
        raise TargetError(f"cannot be read as a property table (JSON: {error})") from None
    records, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as line_error:
            damaged.append((f"line {number}", str(line_error)[:100]))
            continue
        if isinstance(record, Mapping):
            records.append(record)
        else:
            damaged.append((f"line {number}", "it is no record {column: value}"))
    # a whole file of another kind is not a table with many damaged lines
    if len(damaged) >= len(records):
        raise TargetError(f"cannot be read as a property table ({': '.join(damaged[0])})")
    return records, damaged


def _of_list(data: list[Any]) -> RawTable:
    if data and all(isinstance(record, Mapping) for record in data):
        return _of_records(data)
    if data and all(isinstance(row, list) for row in data):
        raise TargetError("rows without column names (orient='values'): write orient='records'")
    raise TargetError(f"JSON must be a list of records {{column: value}}, or {_FORMS}")


def _of_records(records: Sequence[Mapping[str, Any]]) -> RawTable:
    headers: dict[str, None] = {}
    for record in records:
        headers.update(dict.fromkeys(record))
        if len(headers) > MOST_COLUMNS:
            raise TargetError(f"must have at most {MOST_COLUMNS} columns, found more")
    rows = [[_cell(record.get(header)) for header in headers] for record in records]
    return table_of_rows(list(headers), rows)


def _cell(value: Any) -> Any:
    """Return a cell; a list or a mapping, such as a structure, is no label."""
    if isinstance(value, Mapping | list):
        return f"<{type(value).__name__}>"
    return value


def _of_mapping(data: dict[str, Any]) -> RawTable:
    if isinstance(data.get("columns"), list) and isinstance(data.get("data"), list):
        return _of_split(data)
    if isinstance(data.get("schema"), Mapping) and isinstance(data.get("data"), list):
        return _of_list(data["data"])
    values = list(data.values())
    if values and all(isinstance(value, list) for value in values):
        return _of_lists(data)
    if values and all(isinstance(value, Mapping) for value in values):
        return _of_nested(data)
    # a wrapper such as {"data": [...], "meta": {...}}, the answer of a web service
    if isinstance(data.get("data"), list):
        return _of_list(data["data"])
    if len(data) == 1 and isinstance(values[0], list):
        return _of_list(values[0])
    raise TargetError(f"JSON must be a list of records {{column: value}}, or {_FORMS}")


def _of_split(data: Mapping[str, Any]) -> RawTable:
    """Read orient='split'."""
    headers, rows = data["columns"], data["data"]
    if not all(isinstance(row, list) and len(row) == len(headers) for row in rows):
        raise TargetError("each row of 'data' must have a value for each of 'columns'")
    cells = [[_cell(value) for value in row] for row in rows]
    index = data.get("index")
    if isinstance(index, list) and len(index) == len(rows) and not _is_counter(index):
        headers = ["", *headers]
        cells = [[name, *row] for name, row in zip(index, cells, strict=True)]
    return table_of_rows(headers, cells)


def _of_lists(data: Mapping[str, list[Any]]) -> RawTable:
    """Read a mapping of columns to lists."""
    lengths = {len(values) for values in data.values()}
    if len(lengths) != 1:
        raise TargetError("each column must have as many values as the others")
    rows = list(zip(*data.values(), strict=True))
    return table_of_rows(list(data), [[_cell(value) for value in row] for row in rows])


def _of_nested(data: Mapping[str, Mapping[str, Any]]) -> RawTable:
    """Read {column: {row: value}} (orient='columns', the default) or {row: {column: value}} (orient='index')."""
    inner: dict[str, None] = {}
    for values in data.values():
        inner.update(dict.fromkeys(values))
    outer_is_rows = _outer_is_rows(list(data), list(inner))
    if outer_is_rows:
        records = data
    else:
        records = {row: {} for row in inner}
        for column, values in data.items():
            for row, value in values.items():
                records[row][column] = value
    columns = list(inner) if outer_is_rows else list(data)
    names = list(records)
    cells = [[_cell(record.get(column)) for column in columns] for record in records.values()]
    if _is_counter(names):
        return table_of_rows(columns, cells)
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    return table_of_rows(["", *columns], rows)


def _outer_is_rows(outer: Sequence[str], inner: Sequence[str]) -> bool:
    if any(map(is_id_name, outer)) or _is_counter(inner):
        return False
    if any(map(is_id_name, inner)) or _is_counter(outer):
        return True
    # Tables have more rows than columns; pandas writes columns outside unless told otherwise.
    return len(outer) > len(inner)


def _is_counter(names: Sequence[Any]) -> bool:
    return [str(name) for name in names] == [str(number) for number in range(len(names))]
