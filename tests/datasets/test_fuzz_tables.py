"""A few hundred of the mutated tables of ``tools/fuzz_tables.py``."""

import runpy
from pathlib import Path

from .conftest import REPOSITORY

FUZZ = runpy.run_path(str(REPOSITORY / "tools" / "fuzz_tables.py"))


def test_mutated_tables_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    failures = {}
    for seed in range(400):
        failure = FUZZ["failure_of"](seed, tmp_path)
        if failure:
            failures[seed] = failure
    assert failures == {}
