"""Tables and JSON on standard output."""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

# Width of tables in a file or a pipe, where there is no terminal to ask.
_WIDTH = 160


def make_console() -> Console:
    """Return a console on standard output that leaves the colours to us."""
    width = None
    if not sys.stdout.isatty():
        width = _WIDTH
    return Console(highlight=False, width=width)


def print_json(content: Any) -> None:
    """Print JSON that any program can read: no NaN, no infinity."""
    click.echo(json.dumps(content, indent=1, allow_nan=False))


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or wide enough for a file or a log."""
    make_console().print(table)


def plain_table(*headers: str) -> Table:
    """Return a table without lines; a header that starts with ``>`` is that of a right-justified column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        name = header.removeprefix(">")
        justify = "right" if header.startswith(">") else "left"
        # Ids may be long paths; they fold, numbers do not.
        table.add_column(name, justify=justify, no_wrap=name != "id", overflow="fold")
    return table
