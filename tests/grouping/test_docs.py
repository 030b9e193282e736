"""The page on grouping does what it says."""

import doctest
from pathlib import Path

import taskgroup.grouping
from taskgroup.affinity import MEASURES
from taskgroup.grouping import CLUSTERERS, SPARSIFIERS

PAGE = Path(__file__).parents[2] / "docs" / "grouping.md"


def test_the_examples_run():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0


def test_the_story_of_the_package_runs():
    assert doctest.testmod(taskgroup.grouping).failed == 0


def test_every_name_and_the_picture_are_there():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in (*MEASURES, *SPARSIFIERS, *CLUSTERERS))
    assert (PAGE.parent / "images" / "target_graph.png").read_bytes().startswith(b"\x89PNG")
