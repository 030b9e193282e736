"""Verbs that run studies: run, resume, worker, schema, init, doctor."""

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskgroup.errors import InputError, TaskgroupError

if TYPE_CHECKING:
    from taskgroup.study import Study, StudyHooks

_COMMON = [
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
    click.option(
        "--time-limit", metavar="DURATION", help="Start no trial after this long: 90s, 30m, 1h30m."
    ),
    click.option("--executor", help="Where networks are trained: process, inline."),
    click.option("--workers", type=click.IntRange(min=1), help="Trials trained at the same time."),
    click.option(
        "--tracking-uri", metavar="URI", help="An MLflow server instead of the run's own SQLite."
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
]


def _common(command: Callable) -> Callable:
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.command()
@click.argument("study")
@_common
def run(study: str, overrides: tuple[str, ...], quiet: bool, as_json: bool, **flags: Any) -> int:
    """Run the study of a YAML file (a path, or a name such as quickstart)."""
    from taskgroup.study import Study

    return _conduct(Study.from_yaml(study, _overrides(overrides, flags)), Study.run, quiet, as_json)


@click.command()
@click.argument("folder", metavar="RUN")
@_common
def resume(
    folder: str, overrides: tuple[str, ...], quiet: bool, as_json: bool, **flags: Any
) -> int:
    """Go on with an interrupted run; nothing that was trained is trained again."""
    from taskgroup.study import Study

    return _conduct(Study.open(folder, _overrides(overrides, flags)), Study.resume, quiet, as_json)


@click.command()
@click.argument("folder", metavar="RUN")
@click.option(
    "--time-limit", metavar="DURATION", help="Start no trial here after this long: 90s, 30m, 1h30m."
)
@click.option("--executor", help="Where networks are trained: process, inline.")
@click.option("--workers", type=click.IntRange(min=1), help="Trials trained here at the same time.")
@click.option("--wait", metavar="DURATION", help="If the run has not begun, wait for it this long.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
def worker(folder: str, wait: str | None, quiet: bool, **flags: Any) -> int:
    """Help a run that another process conducts: run trials of it until none is left.

    On another machine: the run folder must lie on a file system both see, and the study's storage be a database server
    or journal:PATH. The conducting process ends the study.
    """
    from taskgroup.cli._show import StudyDisplay
    from taskgroup.study import Study

    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")
    try:
        _wait_for_run(folder, wait)
        study = Study.open(folder, _overrides((), flags))
        with StudyDisplay(quiet) as display:
            done = study.work(interruptible(display.hooks))
    except KeyboardInterrupt:
        click.echo(
            "Stopped. Finished groups are kept; the run goes on without this process.",
            file=sys.stderr,
        )
        return 130
    if not quiet:
        ended = (
            "The study has ended." if study.final() is not None else "No trial is left to begin."
        )
        click.echo(f"{ended} Trials run here: {done}")
    return 0


def _wait_for_run(folder: str, wait: str | None) -> None:
    """Until the run has begun, or the time is over."""
    from taskgroup.spec.config import parse_duration

    try:
        until = time.monotonic() + (parse_duration(wait) or 0.0)
    except ValueError as error:
        raise InputError(f"--wait: {error}") from None
    while not (Path(folder) / "study.json").exists() and time.monotonic() < until:
        time.sleep(0.5)


@click.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from taskgroup.spec.config import study_schema

    click.echo(json.dumps(study_schema(), indent=2))


@click.command()
@click.argument("path", default="study.yaml", type=click.Path(dir_okay=False))
@click.option(
    "--dataset", default="crystals", show_default=True, help="A built-in dataset or a store folder."
)
def init(path: str, dataset: str) -> None:
    """Write a commented study file to start from."""
    from taskgroup.spec.config import find_config

    target = Path(path)
    if target.exists():
        raise InputError(f"{path}: exists; choose another name")
    text = find_config("quickstart", "studies").read_text(encoding="utf-8")
    name = target.stem.replace(" ", "_")
    lines = [
        f"name: {name}"
        if line.startswith("name:")
        else f"dataset: {dataset}"
        if line.startswith("dataset:")
        else line
        for line in text.splitlines()
        if not (line.startswith("targets:") and dataset != "crystals")
    ]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    click.echo(f"Wrote {path}. Run it with: taskgroup run {path}")


@click.command()
def doctor() -> None:
    """Say what this machine offers: versions, device, threads, optional packages."""
    from taskgroup.cli._doctor import findings

    width = max(len(name) for name, _ in findings())
    for name, found in findings():
        click.echo(f"{name:{width}}  {found}")


def _overrides(given: tuple[str, ...], flags: dict[str, Any]) -> tuple[str, ...]:
    keys = {
        "n_trials": "search.n_trials",
        "time_limit": "search.time_limit",
        "executor": "executor.kind",
        "workers": "executor.workers",
        "tracking_uri": "tracking.uri",
    }
    return given + tuple(
        f"{keys[name]}={value}" for name, value in flags.items() if value is not None
    )


def _conduct(study: "Study", act: Callable, quiet: bool, as_json: bool) -> int:
    """Run or resume with a progress display; Ctrl-C and SIGTERM stop cleanly and say how to go on."""
    from taskgroup.cli._show import StudyDisplay, show_outcome

    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")
    try:
        with StudyDisplay(quiet or as_json) as display:
            act(study, interruptible(display.hooks))
    except KeyboardInterrupt:
        begun = (study.folder / "study.json").exists()
        goes_on = f"Finished groups are kept; go on with: taskgroup resume {study.folder}"
        click.echo(f"Stopped. {goes_on if begun else 'Nothing had begun.'}", file=sys.stderr)
        return 130
    except OSError as error:
        raise TaskgroupError(
            f"{error}. Finished groups are kept; go on with: taskgroup resume {study.folder}"
        ) from error
    if as_json:
        click.echo(json.dumps(study.final().to_dict(), indent=2))
    elif not quiet:
        show_outcome(study)
    return 0


def interruptible(hooks: "StudyHooks") -> "StudyHooks":
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, now and at the next hook: what runs now may swallow it.

    An exception in a finaliser, or in a callback from C, is printed and lost.
    """
    from taskgroup.study import StudyHooks

    told = []

    def interrupt(*_: Any) -> None:
        told.append(True)
        raise KeyboardInterrupt

    def check(hook: Callable) -> Callable:
        def checked(*given: Any) -> None:
            if told:
                raise KeyboardInterrupt
            hook(*given)

        return checked

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, interrupt)
    return StudyHooks(on_phase=check(hooks.on_phase), on_record=check(hooks.on_record))
