"""``python -m taskgroup``."""

from taskgroup.cli import main

main()
