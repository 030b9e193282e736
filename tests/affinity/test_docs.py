"""The page on affinities does what it says."""

import doctest
from pathlib import Path

import torch

from taskgroup.affinity import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "affinity.md"


def test_the_example_runs():
    torch.set_num_threads(1)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0


def test_every_metric_and_the_picture_are_there():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in METRICS)
    assert (PAGE.parent / "affinity.svg").exists()
