"""Property tables of users: an id column, units, and targets out of the other columns.

What is not stated is guessed, and what was guessed is told: a column of 0 and 1 (or true and false) is a classification
target; a column without a single number is no target. A row or a column that is left out is named with its reason, and
a column that nobody asked for never stops the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.tables.asked import TargetsAsked, read_asked
from taskgroup.datasets.tables.formats import read_table
from taskgroup.datasets.tables.frames import is_frame, raw_frame, stored_targets
from taskgroup.datasets.tables.parts import Labels, LeftOut, TablePart, understand
from taskgroup.datasets.target import Target, TargetTable, broken_rules
from taskgroup.datasets.units import convert, same_unit
from taskgroup.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    Table = str | Path | pd.DataFrame
    Tables = Table | Sequence[Table]


@dataclass(frozen=True, eq=False)
class Properties:
    """Property tables, read.

    Attributes:
        table: the targets.
        notes: what was guessed, or left out, in words.
        left_out: each row and column that is not in, with its reason.
        electrons, formulas: stated by a column ``electrons`` or ``formula``, by row id.
    """

    table: TargetTable
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    electrons: Mapping[str, float] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)


def read_properties(
    tables: "Tables", *, id_column: str | None = None, targets: TargetsAsked = None
) -> Properties:
    """Read one property table, or several that are joined by id.

    Args:
        tables: files (CSV and its relatives, Excel, Parquet, JSON, ASE database or extended XYZ; ``docs/data.md`` lists
            them) or data frames. Units stand in the header, as in ``bulk modulus (GPa)``, or in a row under it whose id
            is empty or ``unit``. Spaces in names become ``_``.
        id_column: by default the first usual name of ids (``ID_COLUMNS``) that is there; of a data frame its index,
            where that does not only count the rows.
        targets: which columns, and what they mean: names; or a mapping (or YAML file of one)
            ``{name: {kind, unit, transform, description}}``. By default every column that holds numbers; of a data
            frame that ``TargetTable.frame`` made, what it says. A column is converted to the unit stated for it where
            the dimensions agree.

    Raises TargetError: no id column, ids twice, no target; or, of a target that was asked for, text in a number, a unit
    that does not parse or cannot be converted, no such column.
    """
    places = [tables] if isinstance(tables, str | Path) or is_frame(tables) else list(tables)
    if not places:
        raise TargetError("properties: at least one table must be given")
    if targets is None and len(places) == 1 and is_frame(places[0]):
        targets = stored_targets(places[0])
    asked = read_asked(targets)
    names = None if asked is None else tuple(asked)
    parts = [_part(place, id_column, names) for place in places]
    part = parts[0] if len(parts) == 1 else _join(parts)
    return _make_properties(part, asked)


def as_target_table(labels: "TargetTable | pd.DataFrame") -> TargetTable:
    """Return labels as a TargetTable: a table as it is, a data frame read by ``read_properties``.

    Raises TargetError: it is neither.
    """
    if isinstance(labels, TargetTable):
        return labels
    if not is_frame(labels):
        found = type(labels).__name__
        raise TargetError(f"labels: must be a TargetTable or a pandas DataFrame, found {found}")
    return read_properties(labels).table


def _part(place: "Table", id_column: str | None, names: Sequence[str] | None) -> TablePart:
    """Return what one file or data frame says. Raises TargetError, naming the file."""
    if is_frame(place):
        source = "data frame"
        raw, id_column = raw_frame(place, id_column)
    else:
        source = str(place)
        raw = read_table(Path(place))
    try:
        return understand(raw, source, id_column, names)
    except TargetError as error:
        raise TargetError(f"{source}: {error}") from None


def _join(parts: Sequence[TablePart]) -> TablePart:
    """Join tables by id: all rows of all of them, labels missing where a table lacks a row."""
    ids = tuple(dict.fromkeys(row_id for part in parts for row_id in part.ids))
    row_by_id = {row_id: row for row, row_id in enumerate(ids)}
    headers = tuple(dict.fromkeys(header for part in parts for header in part.headers))
    joined = TablePart(" + ".join(part.source for part in parts), ids, headers)
    for part in parts:
        rows = np.array([row_by_id[row_id] for row_id in part.ids])
        for name, labels in part.labels.items():
            _join_labels(joined, name, labels, rows, part.source)
        joined.electrons |= part.electrons
        joined.formulas |= part.formulas
        joined.notes += [f"{part.source}: {note}" for note in part.notes]
        joined.left_out += part.left_out
        joined.reasons |= part.reasons
    common = set(parts[0].ids).intersection(*(part.ids for part in parts[1:]))
    if not common:
        raise TargetError(f"{joined.source}: no id stands in all of them; {_first_ids(parts)}")
    joined.notes.append(f"{len(parts)} tables joined: {len(ids)} ids, {len(common)} in all of them")
    return joined


def _first_ids(parts: Sequence[TablePart]) -> str:
    return ", ".join(f"'{part.ids[0]}'" for part in parts)


def _join_labels(
    joined: TablePart, name: str, labels: Labels, rows: NDArray[np.int64], source: str
) -> None:
    """Add labels of one table; where an earlier one has the same target, both must agree."""
    values = np.full(len(joined.ids), np.nan)
    values[rows] = labels.values
    earlier = joined.labels.get(name)
    if earlier is None:
        joined.labels[name] = Labels(labels.header, labels.unit, values)
        return
    if not labels.unit or not earlier.unit or not same_unit(labels.unit, earlier.unit):
        unit_differs = labels.unit != earlier.unit
    else:
        unit_differs = False
    both = ~np.isnan(values) & ~np.isnan(earlier.values)
    differs = both & ~np.isclose(values, earlier.values, rtol=1e-9)
    if unit_differs or differs.any():
        reason = f"column '{name}' stands in another table too, with other "
        reason += "units" if unit_differs else f"values (row '{joined.ids[int(differs.argmax())]}')"
        joined.notes.append(f"{source}: {reason}: left out")
        joined.left_out.append(LeftOut(f"column '{name}'", source, reason))
        return
    merged = np.where(np.isnan(earlier.values), values, earlier.values)
    joined.labels[name] = Labels(earlier.header, earlier.unit, merged)


def _make_properties(part: TablePart, asked: dict[str, dict[str, str]] | None) -> Properties:
    """Make targets of the labels. Raises TargetError: one that was asked for breaks a rule, or there is none."""
    specs, columns = [], []
    wanted = {name: {} for name in part.labels} if asked is None else asked
    for asked_name, stated in wanted.items():
        name = _name_in_table(asked_name, part)
        if name is None:
            raise TargetError(_no_column(asked_name, part))
        try:
            spec, values = _make_target(part, name, stated)
        except TargetError as error:
            if asked is not None:
                raise TargetError(f"{part.source}: {error}") from None
            part.notes.append(f"column '{part.labels[name].header.text}' is left out: {error}")
            part.leave_out_column(part.labels[name].header.text, str(error))
            continue
        specs.append(spec)
        columns.append(values)
    if not specs:
        raise TargetError(_no_target(part))
    table = TargetTable(tuple(specs), part.ids, np.stack(columns, axis=1))
    return Properties(
        table=table,
        notes=tuple(part.notes) if asked is None else _notes_beside_columns(part),
        left_out=tuple(part.left_out),
        electrons=part.electrons,
        formulas=part.formulas,
    )


def _notes_beside_columns(part: TablePart) -> tuple[str, ...]:
    """Return the notes, but for those that the stated targets made superfluous."""
    return tuple(note for note in part.notes if "holds text and is no target" not in note)


def _name_in_table(asked: str, part: TablePart) -> str | None:
    """Return the name of a target that was asked for by name or by its whole header."""
    if asked in part.labels:
        return asked
    for name, labels in part.labels.items():
        if labels.header.text == asked:
            return name
    return None


def _no_column(asked: str, part: TablePart) -> str:
    if asked in part.reasons:
        return f"{part.source}: {part.reasons[asked]}"
    choices = [*part.labels, *part.headers[:200]]
    return f"{part.source}: no column for target '{asked}'; {did_you_mean(asked, choices)}"


def _no_target(part: TablePart) -> str:
    message = f"{part.source}: no column holds a target; found {', '.join(part.headers[:12])}"
    reasons = list(dict.fromkeys(part.reasons.values()))
    if reasons:
        message += f"; left out: {'; '.join(reasons[:3])}"
    return message


def _make_target(
    part: TablePart, name: str, stated: dict[str, str]
) -> tuple[Target, NDArray[np.float64]]:
    """Return a target and its labels, in the unit stated for it. Raises TargetError."""
    labels = part.labels[name]
    values = labels.values
    fields = {"unit": labels.unit, **stated}
    numbers = set(values[~np.isnan(values)].tolist())
    says_kind = "kind" in stated or "transform" in stated
    if not says_kind and numbers == {0.0, 1.0}:
        fields["kind"] = "classification"
        part.notes.append(f"column '{name}' holds 0 and 1: taken as a classification target")
    spec = Target(name, **fields)
    if labels.unit and spec.unit != labels.unit:
        values = _converted(part, labels, spec)
    for rule, broken in broken_rules(spec, values):
        row = int(np.argmax(broken))
        raise TargetError(f"target '{name}', row '{part.ids[row]}': {rule}, got {values[row]:g}")
    return spec, values


def _converted(part: TablePart, labels: Labels, spec: Target) -> NDArray[np.float64]:
    """Return labels in the unit that was stated. Raises TargetError: it is another dimension."""
    if spec.unit and same_unit(labels.unit, spec.unit):
        return labels.values
    try:
        if not spec.unit:
            raise TargetError("no unit")
        values = convert(labels.values, labels.unit, spec.unit)
    except TargetError:
        raise TargetError(
            f"target '{spec.name}': the table says unit '{labels.unit}', "
            f"the targets file '{spec.unit}'"
        ) from None
    part.notes.append(f"column '{spec.name}' is converted from {labels.unit} to {spec.unit}")
    return values
