"""Options that several verbs share."""

import functools
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]

DEVICE = click.option(
    "--device", help="Where to compute, cpu or cuda; default: a GPU if there is one."
)
BATCH_SIZE = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Densities at a time; default: 32, on a GPU 128.",
)
CHECK = click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Refuse a bundle that predicts other numbers than when it was written.",
)


def output_format(*forms: str) -> Callable[[Command], Command]:
    """Add ``--format`` with the forms named, the first by default; the command gets it as the argument ``form``."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="Form of the output.",
    )


def add_json_option(command: click.Command) -> None:
    """Let a command that takes ``--format json`` take ``--json`` too; of a group, all its commands."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            add_json_option(child)
        return
    if not _takes_json(command) or any("--json" in option.opts for option in command.params):
        return
    callback = command.callback

    @functools.wraps(callback)
    def with_form(*arguments: Any, form: str, as_json: bool, **options: Any) -> Any:
        if as_json:
            form = "json"
        return callback(*arguments, form=form, **options)

    command.callback = with_form
    json_option = click.Option(["--json", "as_json"], is_flag=True, help="Short for --format json.")
    command.params.append(json_option)


def _takes_json(command: click.Command) -> bool:
    for option in command.params:
        if option.name == "form" and isinstance(option.type, click.Choice):
            return "json" in option.type.choices
    return False
