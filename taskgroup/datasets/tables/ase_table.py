"""Properties in ASE's files: key-value pairs of a database, and what extended XYZ says of each frame."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from taskgroup.datasets.tables.headers import is_id_name
from taskgroup.datasets.tables.raw import MOST_ROWS, RawTable, table_of_rows
from taskgroup.errors import MissingDependency, TargetError

_SQLITE = b"SQLite format 3\0"


def read_ase_table(path: Path) -> RawTable:
    """Read an ASE database (SQLite) or extended XYZ frames. Raises MissingDependency: ase is not installed."""
    try:
        import ase.db
        import ase.io  # noqa: F401
    except ImportError:
        raise MissingDependency(
            f"{path}: read by ase: pip install 'taskgroup-materials[ase]'"
        ) from None
    if path.suffix.lower() == ".db":
        return _read_database(path)
    return _read_frames(path)


def _read_database(path: Path) -> RawTable:
    import ase.db

    with path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            raise TargetError("must be an ASE database (SQLite), found another file")
    records = []
    with ase.db.connect(str(path), type="db") as database:
        for row in database.select():
            record: dict[str, Any] = dict(row.key_value_pairs)
            # the number of the row, where no key names it
            if not any(is_id_name(key) for key in record):
                record = {"id": row.id, **record}
            energy = row.get("energy")
            if energy is not None:
                record.setdefault("energy (eV)", energy)
            records.append(record)
            _check_length(records)
    return _table(records)


def _read_frames(path: Path) -> RawTable:
    import ase.io

    records = []
    for number, atoms in enumerate(ase.io.iread(str(path), index=":", format="extxyz")):
        record: dict[str, Any] = {}
        for key, value in atoms.info.items():
            if isinstance(value, str | int | float | bool | np.number | np.bool_):
                record[key] = value
        if not any(is_id_name(key) for key in record):
            record = {"id": number, **record}
        _add_results(record, getattr(atoms.calc, "results", {}))
        records.append(record)
        _check_length(records)
    return _table(records)


def _add_results(record: dict[str, Any], results: Mapping[str, Any]) -> None:
    """Add numbers that a calculator gave, such as the energy in eV."""
    for key, value in results.items():
        if isinstance(value, int | float | np.number):
            header = "energy (eV)" if key == "energy" else key
            record.setdefault(header, value)


def _check_length(records: list[Any]) -> None:
    if len(records) > MOST_ROWS:
        raise TargetError(f"must have at most {MOST_ROWS} rows, found more")


def _table(records: list[dict[str, Any]]) -> RawTable:
    headers = list(dict.fromkeys(key for record in records for key in record))
    rows = [[record.get(header) for header in headers] for record in records]
    return table_of_rows(headers, rows)
