"""The leaderboard of a run: the rows, and three ways to show them.

Complete trials come first, best objective on top, and only they have a rank. The refit is measured on test rows, so it
is not ranked among validation values and stands below them; pruned and failed trials come last.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskgroup.errors import RunError, did_you_mean
from taskgroup.tracking.record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

Row = dict[str, Any]
_PLAIN = (
    "rank",
    "kind",
    "name",
    "grouping",
    "grouping_id",
    "objective",
    "n_networks",
    "state",
    "seconds",
)


def leaderboard(
    records: Iterable[TrialRecord], sort: str | None = None, top: int | None = None
) -> list[Row]:
    """Rows ``{rank, kind, name, grouping, grouping_id, objective, n_networks, state, skills, gains, seconds}``.

    ``grouping`` is in words, ``{a, b} | {c}``; ``rank`` is None for what is not ranked (refit, pruned, failed).
    ``sort`` is a column of ``leaderboard_frame`` or a target, for its skill: skills, gains and the objective descend,
    everything else ascends, rows without a value come last. ``top`` keeps the first rows. RunError: unknown column.
    """
    rows = [_row(record) for record in sorted(records, key=_standing)]
    for rank, row in enumerate((row for row in rows if _is_ranked(row)), start=1):
        row["rank"] = rank
    return (_sorted(rows, sort) if sort else rows)[:top]


def leaderboard_frame(
    records: Iterable[TrialRecord], sort: str | None = None, top: int | None = None
) -> "pd.DataFrame":
    """The leaderboard as a table; skills and gains become the columns ``skill/<target>`` and ``gain/<target>``."""
    import pandas as pd

    rows = leaderboard(records, sort, top)
    targets = _targets(rows)
    flat = []
    for row in rows:
        line = {name: row[name] for name in _PLAIN}
        line |= {f"skill/{target}": row["skills"].get(target) for target in targets}
        line |= {f"gain/{target}": row["gains"].get(target) for target in targets}
        flat.append(line)
    columns = None if flat else list(_PLAIN)
    return pd.DataFrame(flat, columns=columns).astype({"rank": "Int64"})


def leaderboard_table(
    records: Iterable[TrialRecord],
    sort: str | None = None,
    top: int | None = None,
    title: str | None = None,
) -> "Table":
    """A table for the terminal; print it with a ``rich`` console.

    The column "joining" is the mean gain over targets against learning each alone, and how many of them lost by it.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("#", "right"),
        ("name", "left"),
        ("skill", "right"),
        ("joining", "left"),
        ("nets", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)
    table.add_column("grouping", overflow="fold", ratio=1)
    for row in leaderboard(records, sort, top):
        skill = "–" if row["objective"] is None else f"{row['objective']:.4f}"
        cells = [
            str(row["rank"] or ""),
            _label(row),
            skill,
            gain_in_words(row["gains"]),
            str(row["n_networks"]),
        ]
        style = {"baseline": "cyan", "assembled": "bold green", "refit": "bold"}.get(
            row["kind"], ""
        )
        style = "dim" if row["objective"] is None else style
        table.add_row(*(Text(cell) for cell in (*cells, row["grouping"])), style=style)
    return table


def _sorted(rows: Sequence[Row], column: str) -> list[Row]:
    targets = _targets(rows)
    columns = [
        *_PLAIN,
        *(f"{part}/{target}" for part in ("skill", "gain") for target in targets),
        *targets,
    ]
    if column not in columns:
        raise RunError(
            f"sort: no column '{column}' in the leaderboard; {did_you_mean(column, columns)}"
        )
    part, target = (
        ("skill", column)
        if column in targets
        else column.split("/", 1)
        if "/" in column
        else ("", "")
    )

    def value(row: Row) -> Any:
        return row[f"{part}s"].get(target) if part else row[column]

    present = [row for row in rows if value(row) is not None]
    missing = [row for row in rows if value(row) is None]
    descends = bool(part) or column == "objective"
    return sorted(present, key=value, reverse=descends) + missing


def gain_in_words(gains: Mapping[str, float | None]) -> str:
    """The mean gain and how many targets lost, for example ``+0.013, 2 lose``; empty where nothing was compared."""
    values = [gain for gain in gains.values() if gain is not None]
    if not any(values):
        return ""
    losers = sum(gain < 0 for gain in values)
    return f"{sum(values) / len(values):+.4f}, {losers} lose{'s' if losers == 1 else ''}"


def _row(record: TrialRecord) -> Row:
    return {
        "rank": None,
        "kind": record.kind,
        "name": record.name,
        "grouping": str(record.grouping),
        "grouping_id": record.grouping.grouping_id,
        "objective": record.objective,
        "n_networks": len(record.grouping),
        "state": record.state,
        "skills": dict(record.skills),
        "gains": dict(record.gains),
        "seconds": record.seconds,
    }


def _is_ranked(row: Row) -> bool:
    return row["state"] == "COMPLETE" and row["kind"] != "refit" and row["objective"] is not None


def _standing(record: TrialRecord) -> tuple[int, float, int]:
    """Sort key: the ranked by falling objective, then refits, pruned, failed; ties in the order they ran."""
    if record.state != "COMPLETE" or record.objective is None:
        return (3 if record.state == "FAIL" else 2, 0.0, record.number)
    return (1 if record.kind == "refit" else 0, -record.objective, record.number)


def _label(row: Row) -> str:
    """The name, with what the reader would otherwise have to know."""
    note = (
        {"refit": "test", "baseline": "baseline"}.get(row["kind"])
        if row["state"] == "COMPLETE"
        else None
    )
    note = note or (row["state"].lower() if row["state"] != "COMPLETE" else None)
    return f"{row['name']} ({note})" if note else row["name"]


def _targets(rows: Sequence[Row]) -> list[str]:
    return sorted({target for row in rows for target in row["skills"]})
