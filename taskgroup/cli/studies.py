"""Verbs that run studies: run, resume, worker."""

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskgroup.cli._options import output_format
from taskgroup.errors import InputError, TaskgroupError

if TYPE_CHECKING:
    from taskgroup.study import Study, StudyHooks

# Exit code of a command that Ctrl-C or SIGTERM ended, as shells give it.
_INTERRUPTED = 130

# Seconds between two looks for a run that has not begun.
_LOOK_EVERY = 0.5

_TIME_LIMIT_HELP = "Start no trial after this long: 90s, 30m, 1h30m."
_EXECUTOR = click.option("--executor", help="Where networks are trained: process, inline.")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="Print errors only.")

_COMMON = (
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key, like search.seed=1.",
    ),
    click.option(
        "--n-trials", type=click.IntRange(min=1), help="Trials in all, baselines included."
    ),
    click.option("--time-limit", metavar="DURATION", help=_TIME_LIMIT_HELP),
    _EXECUTOR,
    click.option("--workers", type=click.IntRange(min=1), help="Trials trained at the same time."),
    click.option(
        "--tracking-uri", metavar="URI", help="An MLflow server instead of the run's own SQLite."
    ),
    _QUIET,
)

# Options of the command line that are short for a key of the study file.
_KEY_OF_OPTION = {
    "n_trials": "search.n_trials",
    "time_limit": "search.time_limit",
    "executor": "executor.kind",
    "workers": "executor.workers",
    "tracking_uri": "tracking.uri",
}


def _common(command: Callable) -> Callable:
    """Add the options that run and resume share, and the two ways to ask for JSON."""
    command = output_format("text", "json")(command)
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.command()
@click.argument("study")
@_common
def run(study: str, overrides: tuple[str, ...], quiet: bool, form: str, **flags: Any) -> int:
    """Run the study of a YAML file (a path, or a name such as quickstart)."""
    from taskgroup.study import Study

    opened = Study.from_yaml(study, _overrides(overrides, flags))
    return _conduct(opened, Study.run, quiet, form == "json")


@click.command()
@click.argument("folder", metavar="RUN")
@_common
def resume(folder: str, overrides: tuple[str, ...], quiet: bool, form: str, **flags: Any) -> int:
    """Go on with an interrupted run; nothing that was trained is trained again."""
    from taskgroup.study import Study

    opened = Study.open(folder, _overrides(overrides, flags))
    return _conduct(opened, Study.resume, quiet, form == "json")


@click.command()
@click.argument("folder", metavar="RUN")
@click.option("--time-limit", metavar="DURATION", help=_TIME_LIMIT_HELP)
@_EXECUTOR
@click.option("--workers", type=click.IntRange(min=1), help="Trials trained here at the same time.")
@click.option("--wait", metavar="DURATION", help="If the run has not begun, wait for it this long.")
@_QUIET
@output_format("text", "json")
def worker(folder: str, wait: str | None, quiet: bool, form: str, **flags: Any) -> int:
    """Help a run that another process conducts: run trials of it until none is left.

    On another machine: the run folder must lie on a file system both see, and the study's storage be a database server
    or journal:PATH. The conducting process ends the study.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.cli._show import StudyDisplay
    from taskgroup.study import Study

    _log_to_stderr(quiet)
    try:
        _wait_for_run(folder, wait)
        study = Study.open(folder, _overrides((), flags))
        with StudyDisplay(quiet or form == "json") as display:
            n_trials = study.work(interruptible(display.hooks))
    except KeyboardInterrupt:
        click.echo(
            "Stopped. Finished groups are kept; the run goes on without this process.", err=True
        )
        return _INTERRUPTED
    if form == "json":
        print_json({"trials": n_trials, "ended": study.final() is not None})
    elif not quiet:
        ended = "No trial is left to begin."
        if study.final() is not None:
            ended = "The study has ended."
        click.echo(f"{ended} Trials run here: {n_trials}")
    return 0


def interruptible(hooks: "StudyHooks") -> "StudyHooks":
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, now and at the next hook.

    The second time is needed because an exception in a finaliser, or in a callback from C, is printed and lost.
    """
    from taskgroup.study import StudyHooks

    interrupted = False

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def checked(hook: Callable) -> Callable:
        def call(*arguments: Any) -> None:
            if interrupted:
                raise KeyboardInterrupt
            hook(*arguments)

        return call

    signal.signal(signal.SIGTERM, interrupt)
    # A shell's background job ignores SIGINT; it must go on to do so.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    return StudyHooks(on_phase=checked(hooks.on_phase), on_record=checked(hooks.on_record))


def _conduct(study: "Study", act: Callable, quiet: bool, as_json: bool) -> int:
    """Run or resume with a progress display; Ctrl-C and SIGTERM stop cleanly and say how to go on."""
    from taskgroup.cli._console import print_json
    from taskgroup.cli._show import StudyDisplay, show_outcome

    _log_to_stderr(quiet)
    goes_on = f"Finished groups are kept; go on with: taskgroup resume {study.folder}"
    try:
        with StudyDisplay(quiet or as_json) as display:
            act(study, interruptible(display.hooks))
    except KeyboardInterrupt:
        if not (study.folder / "study.json").exists():
            goes_on = "Nothing had begun."
        click.echo(f"Stopped. {goes_on}", err=True)
        return _INTERRUPTED
    except OSError as error:
        raise TaskgroupError(f"{error}. {goes_on}") from error
    if as_json:
        print_json(study.final().to_dict())
    elif not quiet:
        show_outcome(study)
    return 0


def _log_to_stderr(quiet: bool) -> None:
    level = logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


def _wait_for_run(folder: str, wait: str | None) -> None:
    """Return when the run has begun, or the time is over."""
    from taskgroup.spec.config import parse_duration

    try:
        seconds = parse_duration(wait) or 0.0
    except ValueError as error:
        raise InputError(f"--wait: {error}") from None
    deadline = time.monotonic() + seconds
    while not (Path(folder) / "study.json").exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)


def _overrides(given: tuple[str, ...], flags: dict[str, Any]) -> tuple[str, ...]:
    """Return overrides of the study file: those of ``--set`` and those of options short for a key."""
    overrides = list(given)
    for name, value in flags.items():
        if value is not None:
            overrides.append(f"{_KEY_OF_OPTION[name]}={value}")
    return tuple(overrides)
