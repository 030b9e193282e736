"""Results of others as a run: tables of set results and plain Optuna studies get a leaderboard and a report.

Nothing is trained and nothing is tested: such a run has no final choice, and its values are those that came with it.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgroup import __version__
from taskgroup.errors import GroupingError, InfeasibleError, RunError
from taskgroup.grouping import Candidate, Grouping, Solution, read_table, solve
from taskgroup.grouping.tables import SOURCES
from taskgroup.spec.sections import SINGLES, TOGETHER
from taskgroup.study.optuna_import import read_optuna
from taskgroup.tracking import StudyRecord, TrialRecord, append_record, runs_folder, write_study
from taskgroup.tracking.gains import SetRun
from taskgroup.tracking.transfer_report import transfer_report, write_transfer

STATE = "imported"
OPTUNA = "optuna"
FORMATS = (*SOURCES, OPTUNA)

# What the values of an imported run are, for people.
SCORES = "scores as given"
TRIALS = "values of the trials, those of a minimised study with their sign changed"
RELATIVE = "losses, as 1 - loss / loss of the task alone"


@dataclass(frozen=True)
class Imported:
    """An imported run: its folder, the number of records in it, and what its values are."""

    folder: Path
    n_records: int
    values: str


def import_sets(
    path: str | Path,
    name: str,
    source: str = "csv",
    *,
    lower_is_better: bool | None = None,
    folder: str | Path | None = None,
) -> Imported:
    """Make a run of a table of set results: each task alone, all together, and the best choice of 1, 2, ... networks.

    Parameters
    ----------
    path: the table; see ``taskgroup.grouping.read_table``.
    name: of the run.
    source: format of the table.
    lower_is_better: the values are losses; default: what the format says. Losses are turned into the relative gain
        over the task alone, so each task needs a row of its own.
    folder: the run folder; default: ``runs/<name>``.

    Raises GroupingError: the table breaks a rule, or a task has no row of its own; RunError: the run exists.
    """
    table = read_table(path, source)
    is_loss = not table.higher_is_better if lower_is_better is None else lower_is_better
    candidates = _relative(table.candidates, str(path)) if is_loss else list(table.candidates)
    values = RELATIVE if is_loss else SCORES
    targets = sorted({task for candidate in candidates for task in candidate.tasks})
    run = _new_run(name, folder, targets, {"from": source, "path": str(path), "values": values})
    records = _set_records(candidates, targets)
    for record in records:
        append_record(run, record)
    set_runs = [_set_run(candidate) for candidate in candidates]
    write_transfer(transfer_report(set_runs, {}), run / "transfer")
    return Imported(run, len(records), values)


def import_optuna(
    storage: str, study: str | None, name: str, *, folder: str | Path | None = None
) -> Imported:
    """Make a run of a plain Optuna study whose trials say which targets they learnt together.

    Parameters
    ----------
    storage: URL of its storage, or a path of a SQLite or journal file.
    study: its name; may be left out where the storage holds only one.
    name: of the run.
    folder: the run folder; default: ``runs/<name>``.

    Raises RunError: no such study, a trial that does not say its grouping (the message says how), or the run exists.
    """
    records = read_optuna(storage, study)
    targets = sorted({target for record in records for target in record.grouping.targets})
    about = {"from": OPTUNA, "study": study or "", "values": TRIALS}
    run = _new_run(name, folder, targets, about)
    for record in records:
        append_record(run, record)
    return Imported(run, len(records), TRIALS)


def _new_run(
    name: str, folder: str | Path | None, targets: Sequence[str], about: Mapping[str, Any]
) -> Path:
    run = Path(folder) if folder else runs_folder() / name
    if (run / "study.json").exists():
        raise RunError(
            f"{run}: a run of this name exists; choose another name or remove the folder"
        )
    run.mkdir(parents=True, exist_ok=True)
    described = {}
    for target in targets:
        described[target] = {"kind": "regression", "unit": "", "transform": "none"}
    dataset = {"name": "imported results", "version": "", "hash": ""}
    versions = {"taskgroup": __version__, "optuna": importlib.metadata.version("optuna")}
    config = {"name": name, "imported": dict(about)}
    write_study(run, StudyRecord(name, config, dataset, "", described, versions, state=STATE))
    return run


def _relative(candidates: Iterable[Candidate], where: str) -> list[Candidate]:
    """Return losses as gains relative to the best network of the task alone."""
    candidates = list(candidates)
    alone: dict[str, float] = {}
    for candidate in candidates:
        if len(candidate.tasks) == 1:
            for task, loss in candidate.scores.items():
                alone[task] = min(loss, alone.get(task, loss))
    relative = []
    for candidate in candidates:
        scores = {}
        for task, loss in candidate.scores.items():
            if not alone.get(task):
                raise GroupingError(
                    f"{where}: a row of '{task}' alone with a loss other than 0 is needed to compare with, found none; "
                    "or say --higher-is-better"
                )
            scores[task] = 1 - loss / alone[task]
        relative.append(Candidate(candidate.tasks, scores, candidate.cost, candidate.key))
    return relative


def _set_records(candidates: Sequence[Candidate], targets: Sequence[str]) -> list[TrialRecord]:
    records = []
    for name, grouping in (
        (SINGLES, Grouping.singles(targets)),
        (TOGETHER, Grouping.together(targets)),
    ):
        wanted = {group.targets for group in grouping.groups}
        of_grouping = [candidate for candidate in candidates if candidate.tasks in wanted]
        try:
            solution = solve(of_grouping, higher_is_better=True) if of_grouping else None
        except InfeasibleError:
            solution = None
        if solution is not None and solution.grouping() == grouping:
            records.append(_record(len(records), "baseline", name, solution))
    best = -float("inf")
    for networks in range(1, len(targets) + 1):
        try:
            solution = solve(candidates, groups=networks, higher_is_better=True)
        except InfeasibleError:
            continue
        if solution.total > best and _is_grouping(solution):
            best = solution.total
            name = f"assembled-{len(solution.groups)}"
            records.append(_record(networks, "assembled", name, solution))
    return records


def _is_grouping(solution: Solution) -> bool:
    """Return whether each set of tasks was chosen once: a grouping holds no set twice."""
    sets = [group.tasks for group in solution.groups]
    return len(set(sets)) == len(sets)


def _record(number: int, kind: str, name: str, solution: Solution) -> TrialRecord:
    skills = dict(solution.per_task)
    return TrialRecord(
        number=number,
        kind=kind,
        name=name,
        grouping=solution.grouping(),
        objective=sum(skills.values()) / len(skills),
        skills=skills,
        gains={},
        settings={},
        state="COMPLETE",
        fail_kind=None,
        fail_reason=None,
        keys=tuple(" ".join((*group.tasks, group.key)).strip() for group in solution.groups),
        n_cached=len(solution.groups),
        seconds=0.0,
    )


def _set_run(candidate: Candidate) -> SetRun:
    """Return a set as the report of transfer takes it; equal keys (#2, ...) are compared with each other."""
    return SetRun(candidate.tasks, candidate.scores, recipe="", repetition=candidate.key)
