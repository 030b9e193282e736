"""Every conformance class of the package can be had from one module."""

import re
from pathlib import Path

import taskgroup
from taskgroup import testing


def test_no_conformance_class_is_missing() -> None:
    names = set()
    for path in Path(taskgroup.__file__).parent.rglob("testing.py"):
        names |= set(re.findall(r"^class (\w+Conformance)\b", path.read_text(), re.MULTILINE))
    assert len(names) >= 8
    assert set(testing.__all__) == names
