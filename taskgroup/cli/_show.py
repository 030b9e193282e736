"""What run and resume show: progress while a study runs, and its outcome in words and tables."""

import sys
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from taskgroup.study.study import Study, StudyHooks

if TYPE_CHECKING:
    from taskgroup.tracking import Interval, TrialRecord

_PHASES = {
    "search": "searching",
    "assemble": "assembling",
    "reevaluate": "training the best again: new seeds, other validation folds",
    "refit": "training every target alone, to compare with",
    "test": "testing, once",
    "explain": "comparing what every group gave",
}


class StudyDisplay:
    """A progress bar on a terminal, plain lines elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        self.hooks = (
            StudyHooks() if quiet else StudyHooks(on_phase=self._phase, on_record=self._record)
        )
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        if not quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._progress = Progress(*columns, console=self._console)
        self._task: Any = None
        self._best: float | None = None

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress:
            self._progress.stop()

    def _phase(self, phase: str, total: int) -> None:
        text = _PHASES.get(phase, phase)
        if not self._progress:
            self._console.print(f"{text} ({total})" if total else text)
            return
        if self._task is not None:
            self._progress.update(self._task, completed=self._progress.tasks[self._task].total)
        self._task = self._progress.add_task(text, total=total or None)

    def _record(self, record: "TrialRecord") -> None:
        if record.objective is not None and (self._best is None or record.objective > self._best):
            self._best = record.objective
        if self._progress and self._task is not None:
            self._progress.advance(self._task)
            if self._best is not None:
                self._progress.update(
                    self._task, description=f"{_PHASES['search']}, best skill {self._best:.3f}"
                )
            return
        value = f"{record.objective:.3f}" if record.objective is not None else record.state.lower()
        cached = (
            f", {record.n_cached} of {len(record.keys)} from the cache" if record.n_cached else ""
        )
        why = f" ({record.fail_kind}: {record.fail_reason})" if record.fail_kind else ""
        self._console.print(
            f"{record.name:14s} {value:>7s}  {record.grouping}  {record.seconds:.1f} s{cached}{why}",
            highlight=False,
            soft_wrap=True,
        )


def show_outcome(study: Study) -> None:
    """Print leaderboard, choice, gains and test table of a finished study."""
    from taskgroup.cli._console import make_console
    from taskgroup.tracking import leaderboard_table

    console, final = make_console(), study.final()
    console.print(leaderboard_table(study.records(), top=12))
    console.print(
        f"\nChosen grouping ({final.name}): [bold]{final.grouping}[/bold]", soft_wrap=True
    )
    console.print(
        f"Mean skill: {final.search_value:.3f} on validation when chosen, "
        f"{_interval(final.reevaluation)} trained again, {_interval(final.test_value)} on test rows\n",
        soft_wrap=True,
    )
    console.print(_outcome_table(study))
    console.print(f"\nBundle: {study.folder / 'export'}", soft_wrap=True)


def _outcome_table(study: Study) -> Table:
    from taskgroup.tracking import read_study

    final, targets = study.final(), read_study(study.folder).targets
    table = Table(
        title="What joining gave each target, and the test metrics of the exported bundle (95 % intervals)"
    )
    gain_column = f"gain from joining ({final.gains_of})" if final.gains else "gain from joining"
    for name in ("target", gain_column, "", "test skill", "test error"):
        table.add_column(name, justify="left" if name in ("target", "") else "right")
    for target, metrics in final.test.items():
        gain = final.gains.get(target)
        error = (
            f"AUC {metrics['auc']:.3f}"
            if "auc" in metrics
            else f"MAE {metrics['mae']:.3g} {targets[target]['unit']}"
        )
        skill = f"{metrics['skill']:.3f} [{metrics['low']:.3f}, {metrics['high']:.3f}]"
        table.add_row(
            target, _interval(gain, sign=True) if gain else "alone", _verdict(gain), skill, error
        )
    return table


def _verdict(gain: "Interval | None") -> str:
    """A gain in a word; one inside the noise of seeds is called so."""
    if gain is None:
        return ""
    if gain.low > 0:
        return "helped"
    return "hurt" if gain.high < 0 else "within seed noise"


def _interval(value: "Interval", sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"
