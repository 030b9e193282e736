"""What run and resume show: progress while a study runs, and its outcome in words and tables."""

import sys
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from taskgroup.study.study import Study, StudyHooks

if TYPE_CHECKING:
    from rich.table import Table

    from taskgroup.tracking import TrialRecord

_PHASES = {
    "search": "searching",
    "assemble": "assembling",
    "reevaluate": "training the best again: new seeds, other validation folds",
    "refit": "training every target alone, to compare with",
    "test": "testing, once",
    "explain": "comparing what every group gave",
}

# Rows of the leaderboard that the end of a run shows.
_TOP = 12


class StudyDisplay:
    """A progress bar per phase on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.hooks = StudyHooks()
        if not quiet:
            self.hooks = StudyHooks(on_phase=self._begin_phase, on_record=self._show_record)
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
        self._task: Any = None
        self._phase = ""
        self._best: float | None = None
        self._n_stopped = 0

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress:
            self._complete_task()
            self._progress.stop()

    def _begin_phase(self, phase: str, total: int) -> None:
        self._phase = _PHASES.get(phase, phase)
        if self._progress:
            self._complete_task()
            self._task = self._progress.add_task(self._phase, total=total or None)
            return
        self._console.print(f"{self._phase} ({total})" if total else self._phase)

    def _complete_task(self) -> None:
        """Fill the bar of a phase that has ended; a phase of unknown length has as many steps as it took."""
        if self._task is None:
            return
        task = self._progress.tasks[self._task]
        total = task.total or max(1, int(task.completed))
        self._progress.update(self._task, total=total, completed=total)

    def _show_record(self, record: "TrialRecord") -> None:
        if record.objective is not None and (self._best is None or record.objective > self._best):
            self._best = record.objective
        if record.state != "COMPLETE":
            self._n_stopped += 1
        if self._progress and self._task is not None:
            self._progress.update(self._task, advance=1, description=self._description())
            return
        self._console.print(record_line(record), highlight=False, soft_wrap=True)

    def _description(self) -> str:
        text = self._phase
        if self._best is not None:
            text += f", best skill {self._best:.3f}"
        if self._n_stopped:
            text += f", {self._n_stopped} stopped early"
        return text


def record_line(record: "TrialRecord") -> str:
    """Return one line about a finished trial."""
    value = record.state.lower()
    if record.objective is not None:
        value = f"{record.objective:.3f}"
    text = f"{record.name:14s} {value:>7s}  {record.grouping}  {record.seconds:.1f} s"
    if record.n_cached:
        text += f", {record.n_cached} of {len(record.keys)} from the cache"
    if record.fail_kind:
        text += f" ({record.fail_kind}: {record.fail_reason})"
    return text


def show_outcome(study: Study) -> None:
    """Print verdict, leaderboard, choice, gains and test table of a finished study."""
    from taskgroup.cli._console import make_console
    from taskgroup.tracking import leaderboard_notes, leaderboard_table, verdict_sentence
    from taskgroup.tracking.verdict import interval_in_words, number_in_words

    console = make_console()
    final = study.final()
    records = study.records()
    console.print(leaderboard_table(records, top=_TOP, final=final))
    for note in leaderboard_notes(records, final):
        console.print(note, soft_wrap=True)
    console.print(f"\n[bold]{verdict_sentence(final)}[/bold]", soft_wrap=True)
    console.print(
        f"Mean skill: {number_in_words(final.search_value)} on validation when chosen, "
        f"{interval_in_words(final.reevaluation)} trained again, "
        f"{interval_in_words(final.test_value)} on test rows\n",
        soft_wrap=True,
    )
    console.print(_outcome_table(study))
    console.print(
        "The gain on test rows counts; that on validation rows helped to choose the grouping.",
        soft_wrap=True,
    )
    console.print(f"\nBundle: {study.folder / 'export'}", soft_wrap=True)


def _outcome_table(study: Study) -> "Table":
    from rich.table import Table

    from taskgroup.tracking import Interval, read_study
    from taskgroup.tracking.verdict import gain_in_a_word, interval_in_words

    final = study.final()
    targets = read_study(study.folder).targets
    table = Table(
        title="Gain from joining, and the test metrics of the exported bundle (95 % intervals)"
    )
    compared = f", {final.gains_of}" if final.gains else ""
    table.add_column("target")
    table.add_column(f"gain, validation{compared}", justify="right")
    table.add_column("")
    table.add_column("gain, test rows", justify="right")
    table.add_column("test skill", justify="right")
    table.add_column("test error", justify="right")
    for target, metrics in final.test.items():
        gain, word = "alone", ""
        if target in final.gains:
            gain = interval_in_words(final.gains[target], "+.3f")
            word = gain_in_a_word(final.gains[target])
        test_gain = Interval(metrics.get("gain"), metrics.get("gain_low"), metrics.get("gain_high"))
        skill = Interval(metrics["skill"], metrics["low"], metrics["high"])
        table.add_row(
            target,
            gain,
            word,
            interval_in_words(test_gain, "+.3f"),
            interval_in_words(skill),
            _error(metrics, targets[target]["unit"]),
        )
    return table


def _error(metrics: dict[str, Any], unit: str) -> str:
    if "auc" in metrics:
        return f"AUC {metrics['auc']:.3f}"
    return f"MAE {metrics['mae']:.3g} {unit}"
