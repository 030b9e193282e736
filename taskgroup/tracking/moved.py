"""A run folder that was moved or copied: MLflow keeps absolute addresses of artifacts, which must follow it.

MLflow has no call for this, so the addresses are rewritten in the run's own SQLite database, ``mlflow.db``. What a
server keeps is not touched: it chooses its addresses itself.
"""

import contextlib
import logging
import sqlite3
from pathlib import Path

_log = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"

# Tables and columns of MLflow that hold addresses of artifacts; those that a version of MLflow lacks are passed over.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow_move(run_dir: str | Path) -> int:
    """Let the addresses in a run's own MLflow database point into the folder it lies in now; return how many changed.

    Only addresses that end inside a folder ``mlartifacts`` are changed, whatever stood before it.
    """
    folder = Path(run_dir).resolve()
    database = folder / "mlflow.db"
    if not database.exists():
        return 0
    try:
        n_changed = _rewrite(database, (folder / ARTIFACTS).as_uri())
    except sqlite3.Error:
        # Whoever opens the database next tells what is wrong with it.
        return 0
    if n_changed:
        _log.warning("%s was moved: %d addresses of MLflow artifacts follow it", folder, n_changed)
    return n_changed


def _rewrite(database: Path, here: str) -> int:
    n_changed = 0
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _ADDRESSES:
            if column not in _columns(connection, table):
                continue
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:%'"
            for (address,) in connection.execute(query).fetchall():
                moved = _moved(address, here)
                if moved == address:
                    continue
                update = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
                n_changed += connection.execute(update, (moved, address)).rowcount
    return n_changed


def _moved(address: str, here: str) -> str:
    """Return an address with what stands before its last folder ``mlartifacts`` replaced."""
    _, separator, rest = address.rpartition(f"/{ARTIFACTS}")
    is_whole_name = rest == "" or rest.startswith("/")
    if not separator or not is_whole_name:
        return address
    return here + rest


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of a table's columns; none where there is no such table."""
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
