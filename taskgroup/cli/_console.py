"""Where tables go: as wide as the terminal, or wide enough for a file or a log."""

import sys

from rich.console import Console

_WIDTH = 160


def make_console() -> Console:
    """A console on standard output that leaves the colours to us."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
