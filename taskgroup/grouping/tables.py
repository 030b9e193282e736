"""Tables of set results: our CSV, and the published formats of Standley, TAG and MTG-Net.

Our CSV has one row per trained set: `tasks` (names separated by spaces), `cost` (optional, 1), then a column per task
with its loss or score, blank where the task is not in the set. The same set may stand in several rows; the
second, third of equal tasks and cost get the keys "#2", "#3", by which `evaluate` finds them in another table.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping.candidates import Candidate


@dataclass(frozen=True)
class SetTable:
    """Candidates read from a file.

    Attributes:
        candidates: in file order.
        higher_is_better: what the format says of its values (our CSV and Standley hold losses).
        weights: of the tasks; 1/n each for TAG, whose published totals are means over the tasks.
    """

    candidates: tuple[Candidate, ...]
    higher_is_better: bool = False
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)


def read_table(path: str | Path, source: str = "csv") -> SetTable:
    """Read a table of set results; ``source`` is the format: csv, standley, tag or mtgnet.

    Raises GroupingError naming file, line, rule and what was found.
    """
    if source not in _READERS:
        raise GroupingError(f"unknown table format '{source}', {did_you_mean(source, _READERS)}")
    return _READERS[source](Path(path))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise GroupingError(
            f"{path}: the table must be a readable text file, but: {reason}"
        ) from None


def _number(text: str, where: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise GroupingError(f"{where}: {what} must be a finite number, found '{text}'")
    return value


def _keyed(rows: Iterable[tuple[str, Mapping[str, float], float]]) -> tuple[Candidate, ...]:
    """Return candidates of (place in the file, scores, cost); repeated sets of equal cost are numbered."""
    seen: Counter[tuple[tuple[str, ...], float]] = Counter()
    candidates = []
    for where, scores, cost in rows:
        tasks = tuple(sorted(scores))
        seen[tasks, cost] += 1
        number = seen[tasks, cost]
        key = "" if number == 1 else f"#{number}"
        try:
            candidates.append(Candidate(tasks, scores, cost, key))
        except GroupingError as error:
            raise GroupingError(f"{where}: {error}") from None
    return tuple(candidates)


def _read_csv(path: Path) -> SetTable:
    lines = _lines(path)
    rows = list(csv.reader(lines))
    if not rows:
        raise GroupingError(f"{path}: the table must have a header line, found an empty file")
    header = [name.strip() for name in rows[0]]
    names = [name for name in header if name not in ("tasks", "cost")]
    _check_header(path, header, names)
    read = []
    for number, row in enumerate(rows[1:], start=2):
        is_blank = not any(cell.strip() for cell in row)
        if is_blank:
            continue
        where = f"{path} line {number}"
        if len(row) != len(header):
            raise GroupingError(
                f"{where}: {len(header)} cells are needed as in the header, found {len(row)}"
            )
        read.append(_csv_row(where, dict(zip(header, row, strict=True)), names))
    if not read:
        raise GroupingError(f"{path}: the table must hold at least one set, found only the header")
    used = {name for _, scores, _ in read for name in scores}
    for name in names:
        if name not in used:
            raise GroupingError(
                f"{path}: every task column must be in at least one set, but '{name}' is in none"
            )
    return SetTable(_keyed(read))


def _check_header(path: Path, header: Sequence[str], names: Sequence[str]) -> None:
    if "tasks" not in header or not names:
        raise GroupingError(
            f"{path}: the header must name 'tasks' and a column per task (may name 'cost'), found: {', '.join(header)}"
        )
    for name, count in Counter(header).items():
        if count > 1 or not name or " " in name:
            raise GroupingError(
                f"{path}: column names must be single words, each once, found '{name}' {count} times"
            )


def _csv_row(
    where: str, row: Mapping[str, str], names: Sequence[str]
) -> tuple[str, dict[str, float], float]:
    tasks = row["tasks"].split()
    if not tasks:
        raise GroupingError(f"{where}: tasks must name at least one task, found none")
    for task in tasks:
        if task not in names:
            raise GroupingError(
                f"{where}: tasks names '{task}', which is no column, {did_you_mean(task, names)}"
            )
        if tasks.count(task) > 1:
            raise GroupingError(
                f"{where}: tasks must name a task once, found '{task}' {tasks.count(task)} times"
            )
    filled = {name for name in names if row[name].strip()}
    for task in sorted(filled ^ set(tasks)):
        found = "a value outside the set" if task in filled else "a blank inside the set"
        raise GroupingError(
            f"{where}: cells must be filled for the tasks of the set only, found {found} for '{task}'"
        )
    cost = row.get("cost", "").strip()
    scores = {task: _number(row[task].strip(), where, f"the value of '{task}'") for task in tasks}
    return where, scores, _number(cost, where, "cost") if cost else 1.0


def _read_standley(path: Path) -> SetTable:
    """Tab separated, no header, a column a task; line 1 the half-cost networks of the tasks alone, then cost 1.

    Format and data: Standley et al. 2020, arXiv:1905.07553, https://github.com/tstandley/taskgrouping.
    Tasks are named a, b, c... by column.
    """
    rows, width = [], None
    for number, line in enumerate(_lines(path), start=1):
        cells = line.split("\t")
        width = width or len(cells)
        where = f"{path} line {number}"
        if len(cells) != width or width > 26:
            raise GroupingError(
                f"{where}: {width} (at most 26) tab-separated columns are needed, found {len(cells)}"
            )
        named = zip("abcdefghijklmnopqrstuvwxyz", cells, strict=False)
        scores = {task: _number(cell, where, "a loss") for task, cell in named if cell.strip()}
        if number == 1:
            rows += [(where, {task: value}, 0.5) for task, value in scores.items()]
        elif scores:
            rows.append((where, scores, 1.0))
    if not rows:
        raise GroupingError(f"{path}: the table must hold at least one set, found an empty file")
    return SetTable(_keyed(rows))


def _read_tag(path: Path) -> SetTable:
    """JSON ``{"comment": ..., "table": {affected: {helper: value}}}``, as in the notebooks of TAG (arXiv:2109.04617).

    A task's score in a set is the mean over the other tasks of the set. No task may be alone, except in tables of
    measured pairs (a comment that names HOA), where the diagonal is its result alone.
    """
    try:
        content = json.loads("\n".join(_lines(path)))
        table = {str(task): dict(row) for task, row in content["table"].items()}
        alone = "HOA" in content.get("comment", "")
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        raise GroupingError(
            f'{path}: a TAG table must be JSON like {{"comment": "", "table": {{task: {{helper: number}}}}}}'
        ) from None
    names = sorted(table)
    for task in names:
        if sorted(table[task]) != names:
            raise GroupingError(
                f"{path}: row '{task}' must name every task once, found: {', '.join(table[task])}"
            )
        table[task] = {
            helper: _number(str(value), f"{path} row '{task}'", f"'{helper}'")
            for helper, value in table[task].items()
        }
    rows = []
    for size in range(1 if alone else 2, len(names) + 1):
        for members in combinations(names, size):
            scores = {task: _mean_of_others(table[task], task, members) for task in members}
            rows.append((str(path), scores, 1.0))
    if not rows:
        raise GroupingError(
            f"{path}: an affinity table must hold at least two tasks, found {len(names)}"
        )
    return SetTable(
        _keyed(rows), higher_is_better=True, weights=dict.fromkeys(names, 1 / len(names))
    )


def _mean_of_others(row: Mapping[str, float], task: str, names: Sequence[str]) -> float:
    others = [row[name] for name in names if name != task] or [row[task]]
    return math.fsum(others) / len(others)


def _read_mtgnet(path: Path) -> SetTable:
    """A gains file beside its membership file: rows of numbers and rows of 0/1, separated by spaces or commas.

    Format: MTG-Net, NeurIPS 2022, https://github.com/ShawnKS/MTG-Net (``NAME_x.csv`` holds the memberships,
    ``NAME_y.csv``, ``NAME_y_test.csv``... the gains over the task alone, higher is better). Tasks are task1, task2...
    """
    members = []
    for other in sorted(path.parent.glob("*_x.csv")):
        if path.name.startswith(other.name.removesuffix("_x.csv")):
            members.append(other)
    if path in members or not members:
        found = "the memberships themselves" if path in members else "none"
        raise GroupingError(
            f"{path}: give the gains file, with its memberships NAME_x.csv beside it, found {found}"
        )
    # Of NAME_x.csv and NAME_2_x.csv the longer one belongs to NAME_2_y.csv.
    member_path = max(members, key=lambda other: len(other.name))
    gains = _matrix(path)
    member = _matrix(member_path)
    if [len(row) for row in gains] != [len(row) for row in member]:
        raise GroupingError(
            f"{path}: rows and columns must match those of {member_path.name}, but do not"
        )
    width = len(str(len(member[0])))
    names = [f"task{i:0{width}d}" for i in range(1, len(member[0]) + 1)]
    rows = []
    for number, (gains_of_set, inside) in enumerate(zip(gains, member, strict=True), start=1):
        scores = {}
        for name, gain, is_member in zip(names, gains_of_set, inside, strict=True):
            if is_member:
                scores[name] = gain
        rows.append((f"{path} line {number}", scores, 1.0))
    return SetTable(_keyed(rows), higher_is_better=True)


def _matrix(path: Path) -> list[list[float]]:
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        cells = line.replace(",", " ").split()
        if cells:
            rows.append([_number(cell, f"{path} line {number}", "a cell") for cell in cells])
    if not rows:
        raise GroupingError(f"{path}: the table must hold at least one set, found an empty file")
    return rows


_READERS: dict[str, Callable[[Path], SetTable]] = {
    "csv": _read_csv,
    "standley": _read_standley,
    "tag": _read_tag,
    "mtgnet": _read_mtgnet,
}
SOURCES = tuple(_READERS)
