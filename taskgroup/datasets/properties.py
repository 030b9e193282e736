"""Property tables of users: CSV, Parquet or JSON, with an id column, units, and targets out of the other columns.

What is not said is guessed, and what was guessed is told: a column of 0 and 1 (or true and false) is a classification
target; a column without a single number is no target. A column that is a number here and a word there is refused.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.datasets.target import Target, TargetTable
from taskgroup.datasets.units import parse_unit
from taskgroup.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

ID_COLUMNS = ("id", "material_id", "name", "file", "filename", "mp_id", "task_id")
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "<na>", "-"})
_UNIT_ROW = frozenset(
    {"", "unit", "units", "[unit]", "[units]", "(unit)", "(units)", "#unit", "#units"}
)
_HEADER = re.compile(r"(.+?)(?:\s*(?:\((.+)\)|\[(.+)\]))?")  # name (unit), name [unit]
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


@dataclass(frozen=True, eq=False)
class Properties:
    """A property table, read: the targets, and in words what was guessed or left out."""

    table: TargetTable
    notes: tuple[str, ...]


def read_properties(
    path: str | Path,
    *,
    id_column: str | None = None,
    targets: Mapping[str, Mapping[str, str]] | Iterable[str] | str | Path | None = None,
) -> Properties:
    """Read a property table.

    Args:
        path: ``.csv``, ``.tsv``, ``.parquet``, or ``.json`` (a list of records). Units stand in the header, as in
            ``bulk modulus (GPa)``, or in a row under it whose id is empty or ``unit``. Spaces in names become ``_``.
        id_column: by default the first of ``ID_COLUMNS`` that is there.
        targets: which columns, and what they mean: names; or a mapping (or YAML file of one)
            ``{name: {kind, unit, transform, description}}``. By default every column that holds numbers.

    Raises TargetError: no id column, ids twice, text in a number, a unit that does not parse, an unknown target.
    """
    source = Path(path)
    frame, units = _named(_read_frame(source), id_column, source)
    column = _find_id_column(frame, id_column, source)
    if len(frame) and frame[column].iloc[0].lower() in _UNIT_ROW:
        units |= {name: unit for name, unit in frame.iloc[0].items() if unit and name != column}
        frame = frame.iloc[1:]
    ids = tuple(frame[column])
    if "" in ids:
        raise TargetError(f"{source}: column '{column}' has no id in row {ids.index('') + 1}")
    said = _read_targets(targets)
    notes: list[str] = []
    specs, values = [], []
    for name in _columns(frame, column, said, source):
        numbers = _numbers(frame[name], ids, source, wanted=said is not None)
        if numbers is None:
            notes.append(f"column '{name}' holds text and is no target")
            continue
        specs.append(
            _spec(name, numbers, units.get(name, ""), (said or {}).get(name, {}), source, notes)
        )
        values.append(numbers)
    if not specs:
        raise TargetError(f"{source}: no column holds a target; found {', '.join(frame.columns)}")
    try:
        table = TargetTable(tuple(specs), ids, np.stack(values, axis=1))
    except TargetError as error:
        raise TargetError(f"{source}: {error}") from None
    return Properties(table, tuple(notes))


def _read_frame(path: Path) -> "pd.DataFrame":
    """All cells as stripped text, '' where missing."""
    import pandas as pd

    if not path.is_file():
        raise TargetError(f"{path}: no such property table")
    suffix = "".join(path.suffixes[-2:]) if path.suffix in (".gz", ".xz") else path.suffix
    try:
        if suffix.startswith((".csv", ".tsv")):
            separator = "\t" if suffix.startswith(".tsv") else ","
            # The header is read as a row, since pandas renames repeated columns.
            cells = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                sep=separator,
                encoding="utf-8-sig",
                header=None,
            )
            frame = cells.iloc[1:].set_axis(cells.iloc[0], axis=1)
        elif suffix == ".parquet":
            frame = pd.read_parquet(path, use_threads=False)
        elif suffix == ".json":
            records = json.loads(path.read_text())
            if not isinstance(records, list) or not all(
                isinstance(record, dict) for record in records
            ):
                raise TargetError(f"{path}: JSON must be a list of records {{column: value}}")
            frame = pd.DataFrame.from_records(records)
        else:
            raise TargetError(
                f"{path}: a property table is .csv, .tsv, .parquet or .json, got '{suffix}'"
            )
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        if isinstance(error, TargetError):
            raise
        raise TargetError(
            f"{path}: cannot be read as a property table ({str(error).splitlines()[0]})"
        ) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame.map(_text)


def _named(
    frame: "pd.DataFrame", id_column: str | None, path: Path
) -> tuple["pd.DataFrame", dict[str, str]]:
    """The frame with columns named as targets are, and the units that stood in its header."""
    parts = {
        header: (header, "") if header == id_column else _header(header) for header in frame.columns
    }
    units = {name: unit for name, unit in parts.values() if unit}
    named = frame.set_axis([parts[header][0] for header in frame.columns], axis=1)
    repeated = named.columns[named.columns.duplicated()]
    if len(repeated):
        raise TargetError(f"{path}: column '{repeated[0]}' stands there twice")
    return named, units


def _header(header: str) -> tuple[str, str]:
    """Name and unit in a header; brackets that hold no unit are left to the rule for names."""
    found = _HEADER.fullmatch(header)
    if found is None:
        return header, ""
    name, *unit = found.groups()
    try:
        unit = parse_unit("".join(filter(None, unit)), header)
    except TargetError:
        return header, ""
    return "_".join(name.split()), unit


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    text = str(cell).strip()
    return "" if text.lower() in _MISSING else text


def _find_id_column(frame: "pd.DataFrame", asked: str | None, path: Path) -> str:
    if asked is not None and asked not in frame.columns:
        raise TargetError(f"{path}: no id column '{asked}'; {did_you_mean(asked, frame.columns)}")
    for name in (asked,) if asked else ID_COLUMNS:
        if name in frame.columns:
            return name
    found = ", ".join(frame.columns)
    raise TargetError(
        f"{path}: no id column: name one of {', '.join(ID_COLUMNS)}, or say which it is; found {found}"
    )


def _read_targets(targets: Any) -> dict[str, dict[str, str]] | None:
    """What was said about targets, by name; None where nothing was."""
    if targets is None:
        return None
    place = "targets"
    if isinstance(targets, str | Path):
        import yaml

        place = str(targets)
        try:
            targets = yaml.safe_load(Path(targets).read_text())
        except OSError as error:
            raise TargetError(f"{place}: cannot be read ({error.strerror})") from error
        except yaml.YAMLError as error:
            raise TargetError(f"{place}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(targets, Mapping):
        targets = {name: {} for name in targets or ()}
    known = [field.name for field in fields(Target) if field.name != "name"]
    for name, said in targets.items():
        if not isinstance(said, Mapping | None):
            raise TargetError(
                f"{place}: target '{name}' must be a mapping of {', '.join(known)}, got {said!r}"
            )
        for field in said or {}:
            if field not in known:
                raise TargetError(
                    f"{place}: target '{name}' has an unknown field '{field}'; {did_you_mean(field, known)}"
                )
    return {str(name): dict(said or {}) for name, said in targets.items()}


def _columns(
    frame: "pd.DataFrame", id_column: str, said: dict[str, Any] | None, path: Path
) -> list[str]:
    columns = [name for name in frame.columns if name != id_column]
    for name in said or ():
        if name not in columns:
            raise TargetError(
                f"{path}: no column for target '{name}'; {did_you_mean(name, columns)}"
            )
    return columns if said is None else list(said)


def _numbers(
    cells: "pd.Series", ids: tuple[str, ...], path: Path, wanted: bool
) -> np.ndarray | None:
    """The column as float64, NaN where missing; None where it holds text only and nobody asked for it."""
    values, words = np.full(len(cells), np.nan), []
    for row, text in enumerate(cells):
        if text:
            try:
                values[row] = _number(text)
            except ValueError:
                words.append(row)
    if words and not wanted and np.isnan(values).all():
        return None
    if words:
        row = words[0]
        raise TargetError(
            f"{path}: target '{cells.name}', row '{ids[row]}': needs a number, got '{cells.iloc[row]}'"
        )
    return values


def _number(text: str) -> float:
    if "_" in text:  # Python reads 1_000
        raise ValueError(text)
    return _TRUTH[text.lower()] if text.lower() in _TRUTH else float(text)


def _spec(
    name: str, values: np.ndarray, unit: str, said: dict[str, str], path: Path, notes: list[str]
) -> Target:
    known = values[~np.isnan(values)]
    if not {"kind", "transform"} & set(said) and set(known) == {0.0, 1.0}:
        said = {**said, "kind": "classification"}
        notes.append(f"column '{name}' holds 0 and 1: taken as a classification target")
    if unit and said.get("unit", unit) != unit:
        raise TargetError(
            f"{path}: target '{name}': the table says unit '{unit}', the targets file '{said['unit']}'"
        )
    try:
        return Target(name, **{"unit": unit, **said})
    except TargetError as error:
        raise TargetError(f"{path}: {error}") from None
