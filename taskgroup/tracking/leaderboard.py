"""The leaderboard of a run: the rows, and three ways to show them.

Complete trials come first, best objective on top, and only they have a rank. The refit is measured on test rows, so it
is not ranked among validation values and stands below them; pruned and failed trials come last.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskgroup.errors import RunError, did_you_mean
from taskgroup.settings_text import common_and_own, differing_names, in_words, recipe_settings
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.verdict import mean_gain_in_words, number_in_words, verdict_sentence

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

Row = dict[str, Any]

_COLUMNS = (
    "rank",
    "chosen",
    "kind",
    "name",
    "grouping",
    "grouping_id",
    "objective",
    "test",
    "n_networks",
    "state",
    "seconds",
)

# Parts of a row that hold one number per target, and the prefix of their columns in a table.
_PREFIX_OF_PART = {"skills": "skill", "gains": "gain", "test_skills": "test"}

_STYLES = {"baseline": "cyan", "assembled": "green", "refit": "bold"}
_CHOSEN_STYLE = "bold reverse green"


def leaderboard(
    records: Iterable[TrialRecord],
    sort: str | None = None,
    top: int | None = None,
    final: FinalRecord | None = None,
) -> list[Row]:
    """Return one row per record, best first.

    A row is ``{rank, chosen, kind, name, grouping, grouping_id, objective, test, n_networks, state, seconds, skills,
    gains, test_skills, settings, verdict}``.

    - ``grouping`` is in words, ``{a, b} | {c}``; ``rank`` is None for what is not ranked (refit, pruned, failed).
    - ``chosen`` marks the choice of ``final``, and only its row has ``test`` (mean skill on test rows),
      ``test_skills``, and the ``verdict`` in one sentence: nothing else is tested.
    - ``gains`` are against the ``singles`` baseline, for assembled groupings too.
    - ``settings`` are the hyper-parameters ``hp/*``; for an assembled grouping the backbones of its networks.

    ``sort`` is a column of ``leaderboard_frame`` or a target, for its skill: skills, gains and the objective descend,
    everything else ascends, rows without a value come last. ``top`` keeps the first rows. Raises RunError: unknown
    column.
    """
    rows = []
    rank = 0
    for record in sorted(with_gains(records), key=_standing):
        row = _row(record, final)
        if _is_ranked(record):
            rank += 1
            row["rank"] = rank
        rows.append(row)
    if sort is not None:
        rows = _sorted(rows, sort)
    return rows[:top]


def leaderboard_frame(
    records: Iterable[TrialRecord],
    sort: str | None = None,
    top: int | None = None,
    final: FinalRecord | None = None,
) -> "pd.DataFrame":
    """Return the leaderboard as a table.

    Numbers per target become the columns ``skill/<target>``, ``gain/<target>`` and, once tested, ``test/<target>``;
    hyper-parameters become the columns ``hp/*``.
    """
    import pandas as pd

    rows = leaderboard(records, sort, top, final)
    if not rows:
        return pd.DataFrame([], columns=list(_COLUMNS)).astype({"rank": "Int64"})
    setting_names = dict.fromkeys(name for row in rows for name in row["settings"])
    lines = []
    for row in rows:
        line = {name: row[name] for name in _COLUMNS}
        for part, prefix in _PREFIX_OF_PART.items():
            for target in _targets(rows, part):
                line[f"{prefix}/{target}"] = row[part].get(target)
        for name in setting_names:
            line[name] = row["settings"].get(name)
        lines.append(line)
    return pd.DataFrame(lines).astype({"rank": "Int64"})


def leaderboard_table(
    records: Iterable[TrialRecord],
    sort: str | None = None,
    top: int | None = None,
    title: str | None = None,
    final: FinalRecord | None = None,
) -> "Table":
    """Return a table for the terminal; print it with a ``rich`` console.

    The column "joining" is the mean gain over targets against learning each alone, and how many of them lost by it;
    "settings" are the hyper-parameters in which the shown rows differ.
    """
    from rich.table import Table
    from rich.text import Text

    rows = leaderboard(records, sort, top, final)
    is_tested = any(row["test"] is not None for row in rows)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("skill", justify="right", no_wrap=True)
    if is_tested:
        table.add_column("test", justify="right", no_wrap=True)
    table.add_column("joining", no_wrap=True)
    table.add_column("nets", justify="right", no_wrap=True)
    table.add_column("grouping", overflow="fold", ratio=2)
    setting_names = differing_names([row["settings"] for row in rows])
    if setting_names:
        table.add_column("settings", overflow="fold", ratio=1)
    for row in rows:
        cells = [str(row["rank"] or ""), _label(row), number_in_words(row["objective"], ".4f")]
        if is_tested:
            cells.append("" if row["test"] is None else f"{row['test']:.4f}")
        cells += [mean_gain_in_words(row["gains"]), str(row["n_networks"]), row["grouping"]]
        if setting_names:
            cells.append(in_words(row["settings"], setting_names))
        table.add_row(*map(Text, cells), style=_style(row))
    return table


def leaderboard_notes(
    records: Sequence[TrialRecord], final: FinalRecord | None = None
) -> list[str]:
    """Return sentences a reader of the leaderboard needs: why the choice is not rank 1, which trials are left out."""
    notes = []
    if final is not None:
        notes += _choice_notes(leaderboard(records, final=final), final)
    if any(group.helpers for record in records for group in record.grouping.groups):
        notes.append("{a + b} is a network that predicts a; b is only trained along to help.")
    n_missing = left_out(records)
    if n_missing:
        verb = "is" if n_missing == 1 else "are"
        trials = "1 trial" if n_missing == 1 else f"{n_missing} trials"
        notes.append(
            f"{trials} {verb} left out: a repetition of an earlier trial, which costs nothing, or one that was "
            "interrupted and run again under a new number."
        )
    return notes


def left_out(records: Iterable[TrialRecord]) -> int:
    """Return how many trial numbers have no record: repetitions of earlier trials and interrupted ones."""
    numbers = {record.number for record in records if record.is_trial}
    return max(numbers, default=-1) + 1 - len(numbers)


def with_gains(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records with the gains of assembled groupings filled in, against the ``singles`` baseline."""
    records = list(records)
    alone = skills_alone(records)
    filled = []
    for record in records:
        if record.kind == "assembled" and not record.gains:
            record = replace(record, gains=_gains(record.skills, alone))
        filled.append(record)
    return filled


def skills_alone(records: Iterable[TrialRecord]) -> dict[str, float | None]:
    """Return the skill of each target in the baseline that learns every target alone; empty without one."""
    for record in records:
        is_singles = all(len(group.targets) == 1 for group in record.grouping.groups)
        if record.kind == "baseline" and is_singles and record.objective is not None:
            return record.skills
    return {}


def plan_settings(plan: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings that all networks of a plan share, as ``hp/*``, and its backbones with their counts."""
    if plan is None:
        return {}
    recipes = [recipe_settings(recipe) for recipe in plan["recipes"]]
    common, _ = common_and_own(recipes)
    backbones = Counter()
    for number in plan["recipe_of_group"]:
        backbones[recipes[number]["model.backbone"]] += 1
    common["model.backbone"] = _counted(backbones)
    return {f"hp/{name}": value for name, value in common.items()}


def _choice_notes(rows: Sequence[Row], final: FinalRecord) -> list[str]:
    chosen = [row for row in rows if row["chosen"] and row["rank"] is not None]
    if not chosen:
        return []
    rank = chosen[0]["rank"]
    if rank == 1:
        return [f"{final.name} is the choice."]
    return [
        f"{final.name} is the choice, although {rank - 1} validation value{'s are' if rank > 2 else ' is'} higher: the "
        "best of many is partly luck, so the best groupings were trained again with new seeds on other validation "
        f"folds, and the choice was made by that ({number_in_words(final.reevaluation.mean)})."
    ]


def _counted(counts: Counter) -> str:
    """Return ``12 descriptors, 8 msa3dcnn``, or the one name where there is only one."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _row(record: TrialRecord, final: FinalRecord | None) -> Row:
    is_chosen = final is not None and record.name == final.name
    settings = plan_settings(record.plan)
    for name, value in record.settings.items():
        if name.startswith("hp/"):
            settings[name] = value
    test = None
    test_skills = {}
    if is_chosen:
        if record.plan is None and not record.settings:
            settings = plan_settings(final.plan)
        test = final.test_value.mean
        test_skills = {target: metrics.get("skill") for target, metrics in final.test.items()}
    return {
        "rank": None,
        "chosen": is_chosen,
        "kind": record.kind,
        "name": record.name,
        "grouping": str(record.grouping),
        "grouping_id": record.grouping.grouping_id,
        "objective": record.objective,
        "test": test,
        "n_networks": len(record.grouping),
        "state": record.state,
        "seconds": record.seconds,
        "skills": dict(record.skills),
        "gains": dict(record.gains),
        "test_skills": test_skills,
        "settings": settings,
        "verdict": verdict_sentence(final) if is_chosen else None,
    }


def _gains(
    skills: Mapping[str, float | None], alone: Mapping[str, float | None]
) -> dict[str, float | None]:
    gains = {}
    for target, skill in skills.items():
        if skill is not None and alone.get(target) is not None:
            gains[target] = skill - alone[target]
    return gains


def _sorted(rows: Sequence[Row], column: str) -> list[Row]:
    targets = _targets(rows, "skills")
    columns = [*_COLUMNS, *targets]
    for prefix in _PREFIX_OF_PART.values():
        columns += [f"{prefix}/{target}" for target in targets]
    columns += dict.fromkeys(name for row in rows for name in row["settings"])
    if column not in columns:
        raise RunError(
            f"sort: no column '{column}' in the leaderboard; {did_you_mean(column, columns)}"
        )
    values = [_value(row, column, targets) for row in rows]
    present = [(value, row) for value, row in zip(values, rows, strict=True) if value is not None]
    missing = [row for value, row in zip(values, rows, strict=True) if value is None]
    descends = column in ("objective", "test", "chosen") or _part(column, targets) is not None
    # Numbers and texts may stand in one column of settings; texts come last.
    present.sort(key=lambda pair: _sort_key(pair[0]), reverse=descends)
    return [row for _, row in present] + missing


def _part(column: str, targets: Sequence[str]) -> tuple[str, str] | None:
    """Return part and target that a column shows; None for a column of its own."""
    if column in targets:
        return "skills", column
    prefix, _, target = column.partition("/")
    for part, prefix_of_part in _PREFIX_OF_PART.items():
        if prefix == prefix_of_part:
            return part, target
    return None


def _value(row: Row, column: str, targets: Sequence[str]) -> Any:
    part = _part(column, targets)
    if part is not None:
        return row[part[0]].get(part[1])
    if column in _COLUMNS:
        return row[column]
    return row["settings"].get(column)


def _sort_key(value: Any) -> tuple[bool, Any]:
    if isinstance(value, int | float):
        return False, value
    return True, str(value)


def _is_ranked(record: TrialRecord) -> bool:
    is_scored = record.state == "COMPLETE" and record.objective is not None
    return is_scored and record.kind != "refit"


def _standing(record: TrialRecord) -> tuple[int, float, int]:
    """Return a sort key: the ranked by falling objective, then refits, pruned, failed; ties in the order they ran."""
    if _is_ranked(record):
        return 0, -record.objective, record.number
    if record.state == "COMPLETE" and record.objective is not None:
        return 1, -record.objective, record.number
    return (3 if record.state == "FAIL" else 2), 0.0, record.number


def _label(row: Row) -> str:
    """Return the name, with what the reader would otherwise have to know."""
    notes = []
    if row["chosen"]:
        notes.append("chosen")
    if row["state"] != "COMPLETE":
        notes.append(row["state"].lower())
    elif row["kind"] == "baseline":
        notes.append("baseline")
    elif row["kind"] == "refit":
        notes.append("test")
    if not notes or notes == [row["name"]]:
        return row["name"]
    return f"{row['name']} ({', '.join(notes)})"


def _style(row: Row) -> str:
    if row["chosen"]:
        return _CHOSEN_STYLE
    if row["objective"] is None:
        return "dim"
    return _STYLES.get(row["kind"], "")


def _targets(rows: Sequence[Row], part: str) -> list[str]:
    return sorted({target for row in rows for target in row[part]})
