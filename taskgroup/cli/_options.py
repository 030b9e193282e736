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
    """Add ``--format`` with the forms named, the first by default, and ``--json`` as a short form of one of them.

    The command gets one argument, ``form``.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_form(*arguments: Any, form: str, as_json: bool, **options: Any) -> Any:
            if as_json:
                form = "json"
            return command(*arguments, form=form, **options)

        with_json = click.option(
            "--json", "as_json", is_flag=True, help="Short for --format json."
        )(with_form)
        return click.option(
            "--format",
            "form",
            type=click.Choice(forms),
            default=forms[0],
            show_default=True,
            help="Form of the output.",
        )(with_json)

    return decorate
