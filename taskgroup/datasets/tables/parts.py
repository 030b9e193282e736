"""One property table understood: ids, labels, and what else its columns state of each row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.tables.cells import Column, is_number, read_column
from taskgroup.datasets.tables.headers import (
    Header,
    is_id_name,
    is_nameless,
    normal_name,
    read_header,
)
from taskgroup.datasets.tables.id_column import find_id_column, is_counter
from taskgroup.datasets.tables.raw import RawTable
from taskgroup.datasets.target import is_name
from taskgroup.datasets.units import DIMENSIONLESS, parse_unit, same_unit
from taskgroup.errors import TargetError

# (GPa) and [GPa] in a row of units
_BRACKETS = re.compile(r"[(\[{](.*)[)\]}]")
# what stands in the id column of a row of units
_UNIT_WORDS = frozenset(
    {"", "unit", "units", "[unit]", "[units]", "(unit)", "(units)", "#unit", "#units", "einheit"}
)
_ELECTRONS = frozenset({"electrons", "n_electrons", "nelect"})
_FORMULAS = frozenset(
    {"formula", "pretty_formula", "formula_pretty", "reduced_formula", "chemical_formula"}
)
# damaged rows that are named one by one
_NOTED = 5


@dataclass(frozen=True)
class LeftOut:
    """A row or a column of a property table that is not in: which one, the file, and the reason."""

    what: str
    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Labels:
    """Numbers of one column, by row, with the unit of its header or row of units; NaN where missing."""

    header: Header
    unit: str
    values: NDArray[np.float64]


@dataclass(eq=False)
class TablePart:
    """What one file says: ``labels`` by name of target, and by id the stated electrons and formulas."""

    source: str
    ids: tuple[str, ...]
    headers: tuple[str, ...]
    labels: dict[str, Labels] = field(default_factory=dict)
    electrons: dict[str, float] = field(default_factory=dict)
    formulas: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def leave_out_column(self, name: str, reason: str) -> None:
        """Leave a column out, with its reason."""
        self.reasons.setdefault(name, reason)
        self.left_out.append(LeftOut(f"column '{name}'", self.source, reason))


def understand(
    raw: RawTable, source: str, id_column: str | None, asked: Sequence[str] | None
) -> TablePart:
    """Read ids, labels, electrons and formulas of a table; only columns in ``asked`` if that is given.

    Raises TargetError: there is no id column, or an id stands there twice with different values.
    """
    id_number = find_id_column(raw, id_column)
    part = TablePart(source, (), raw.headers, notes=list(raw.notes))
    for what, reason in raw.left_out:
        part.left_out.append(LeftOut(what, source, reason))
    part.notes += [f"{what} is left out: {reason}" for what, reason in raw.left_out[:_NOTED]]
    if len(raw.left_out) > _NOTED:
        part.notes.append(f"{len(raw.left_out) - _NOTED} more damaged rows are left out")
    unit_cells, raw = _take_unit_row(raw, id_number)
    raw = _clean_rows(raw, id_number, part)
    part.ids = raw.columns[id_number]
    _read_columns(raw, id_number, unit_cells, part, asked)
    return part


def _take_unit_row(raw: RawTable, id_number: int) -> tuple[tuple[str, ...], RawTable]:
    """Return the cells of the row of units, and the table without it; no cells where it has none.

    The first row is one only where it can be nothing else: it has no id (or the word ``unit``), no number, and a word.
    """
    cells = raw.row(0)
    others = [cell for number, cell in enumerate(cells) if number != id_number]
    has_number = any(is_number(cell) for cell in others if cell.lower() not in DIMENSIONLESS)
    has_word = any(cell.lower() not in DIMENSIONLESS for cell in others)
    if cells[id_number].lower() not in _UNIT_WORDS or has_number or not has_word:
        return (), raw
    return cells, raw.rows(range(1, raw.n_rows))


def _clean_rows(raw: RawTable, id_number: int, part: TablePart) -> RawTable:
    """Leave out rows without an id and rows that repeat another one. Raises TargetError: an id has two rows."""
    first_row_by_id: dict[str, int] = {}
    numbers = []
    for number in range(raw.n_rows):
        cells = raw.row(number)
        row_id = cells[id_number]
        reason = ""
        if not any(cells):
            continue
        if not row_id:
            reason = "it has no id"
        elif raw.has_header and cells == raw.headers:
            reason = "it repeats the header"
        elif row_id in first_row_by_id:
            if cells != raw.row(first_row_by_id[row_id]):
                raise TargetError(
                    f"id '{row_id}' stands there twice with different values; "
                    "another column may hold the ids (--id-column)"
                )
            reason = "it repeats an earlier row"
        if reason:
            name = f"row {number + 1} ('{row_id}')" if row_id else f"row {number + 1}"
            part.left_out.append(LeftOut(name, part.source, reason))
            part.notes.append(f"{name} is left out: {reason}")
            continue
        first_row_by_id[row_id] = number
        numbers.append(number)
    if not numbers:
        raise TargetError("cannot be read as a property table (no row has an id)")
    return raw if len(numbers) == raw.n_rows else raw.rows(numbers)


def _read_columns(
    raw: RawTable,
    id_number: int,
    unit_cells: Sequence[str],
    part: TablePart,
    asked: Sequence[str] | None,
) -> None:
    headers = [read_header(text) for text in raw.headers]
    repeated = _repeated_names(raw, headers, id_number, part)
    ambiguous: list[int] = []
    columns: dict[int, Column] = {}
    for number, header in enumerate(headers):
        if number == id_number:
            continue
        cells = raw.columns[number]
        if _take_aside(header, cells, part, asked):
            continue
        if not _is_wanted(header, asked) or number in repeated:
            continue
        if asked is None and _is_no_target(header, cells, part):
            continue
        columns[number] = read_column(cells)
        if columns[number].reason.endswith("write it without the comma"):
            ambiguous.append(number)
    # 1,234 is clear where another column of the table has decimal commas
    if any(column.decimal_comma for column in columns.values()):
        part.notes.append("numbers have decimal commas")
        for number in ambiguous:
            columns[number] = read_column(raw.columns[number], decimal_comma=True)
    for number, column in columns.items():
        unit = unit_cells[number] if unit_cells else ""
        _add_labels(headers[number], unit, column, part)


def _is_wanted(header: Header, asked: Sequence[str] | None) -> bool:
    return asked is None or header.name in asked or header.text in asked


def _repeated_names(
    raw: RawTable, headers: Sequence[Header], id_number: int, part: TablePart
) -> set[int]:
    """Return the columns left out because their name stands there twice; equal columns count once."""
    first_by_name: dict[str, int] = {}
    repeated: set[int] = set()
    for number, header in enumerate(headers):
        if number == id_number or is_nameless(header.text):
            continue
        first = first_by_name.setdefault(header.name, number)
        if first == number:
            continue
        repeated.add(number)
        if raw.columns[number] == raw.columns[first] and header.unit == headers[first].unit:
            part.leave_out_column(header.text, f"it repeats column '{headers[first].text}'")
            continue
        repeated.add(first)
        part.leave_out_column(header.name, f"column '{header.name}' stands there twice")
    return repeated


def _take_aside(
    header: Header, cells: Sequence[str], part: TablePart, asked: Sequence[str] | None
) -> bool:
    """Keep stated electrons and formulas; True for a column that is no target besides."""
    name = normal_name(header.name)
    if name in _FORMULAS:
        for row_id, cell in zip(part.ids, cells, strict=True):
            if cell:
                part.formulas[row_id] = cell
        return False
    if name not in _ELECTRONS:
        return False
    column = read_column(cells)
    if column.bad_row >= 0:
        part.leave_out_column(header.text, f"row '{part.ids[column.bad_row]}': {column.reason}")
        return True
    for row_id, count in zip(part.ids, column.values.tolist(), strict=True):
        # NaN differs from itself
        if count == count and 0 < count < float("inf"):
            part.electrons[row_id] = count
    is_target = asked is not None and _is_wanted(header, asked)
    if not is_target:
        part.notes.append(f"column '{header.text}' states the electrons of each row: no target")
    return not is_target


def _is_no_target(header: Header, cells: Sequence[str], part: TablePart) -> bool:
    """Leave out a column that nobody asked for and that is no property: it counts rows, or has no name."""
    if is_nameless(header.text):
        if any(cells):
            counts = is_counter(cells)
            reason = "it has no name and counts the rows" if counts else "it has no name"
            part.notes.append(f"column '{header.text}' is left out: {reason}")
            part.leave_out_column(header.text, reason)
        return True
    looks_like_ids = is_id_name(header.text) and normal_name(header.text).endswith(
        ("id", "icsd", "cod", "key", "label")
    )
    if looks_like_ids and any(cells):
        part.notes.append(f"column '{header.text}' holds other ids and is no target")
        part.leave_out_column(header.text, "it holds ids")
        return True
    return False


def _add_labels(header: Header, unit_cell: str, column: Column, part: TablePart) -> None:
    """Add the labels of a column, or leave it out with its reason."""
    if header.note:
        part.notes.append(header.note)
    if column.bad_row >= 0:
        reason = f"target '{header.name}', row '{part.ids[column.bad_row]}': {column.reason}"
        if column.has_numbers:
            part.notes.append(f"column '{header.text}' is left out: {reason}")
        else:
            part.notes.append(f"column '{header.text}' holds text and is no target")
        part.leave_out_column(header.text, reason)
        part.reasons.setdefault(header.name, reason)
        return
    unit = header.unit
    try:
        if unit_cell:
            unit = parse_unit(_BRACKETS.sub(r"\1", unit_cell), f"target '{header.name}'")
        if column.unit:
            unit = _unit_of_cells(unit, column.unit, header)
        if not is_name(header.name):
            raise TargetError(
                f"target '{header.name}': a name is made of letters, digits, '_', '-' and '.'"
            )
    except TargetError as error:
        part.notes.append(f"column '{header.text}' is left out: {error}")
        part.leave_out_column(header.text, str(error))
        part.reasons.setdefault(header.name, str(error))
        return
    part.labels[header.name] = Labels(header, unit, column.values)


def _unit_of_cells(stated: str, in_cells: str, header: Header) -> str:
    """Return the unit that stands behind each number. Raises TargetError: it is none, or not that of the header."""
    unit = parse_unit(in_cells, f"target '{header.name}'")
    if stated and not same_unit(stated, unit):
        raise TargetError(
            f"target '{header.name}': its header says '{stated}', its cells '{in_cells}'"
        )
    return unit
