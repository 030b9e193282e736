"""The pages on grouping and on the solver do what they say."""

import doctest
import importlib
from pathlib import Path

import click
import pytest

from taskgroup.affinity import MEASURES
from taskgroup.cli.solve import solve
from taskgroup.grouping import CLUSTERERS, SPARSIFIERS
from taskgroup.grouping.predict import GainPredictor
from taskgroup.grouping.tables import SOURCES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["grouping.md", "solve.md"])
def test_the_examples_run(page):
    result = doctest.testfile(str(DOCS / page), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0


@pytest.mark.parametrize(
    "module",
    [
        "grouping",
        "grouping.next_sets",
        "grouping.predict",
        "grouping.predict._networks",
        "grouping.predict._recipes",
        "grouping.predict.skills",
        "grouping.solve",
    ],
)
def test_the_stories_of_the_modules_run(module):
    result = doctest.testmod(importlib.import_module(f"taskgroup.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_name_and_the_picture_of_the_page_on_grouping_are_there():
    text = (DOCS / "grouping.md").read_text(encoding="utf-8")
    assert all(
        f"`{name}`" in text
        for name in (*MEASURES.builtin_names, *SPARSIFIERS, *CLUSTERERS.builtin_names)
    )
    assert (DOCS / "images" / "target_graph.png").read_bytes().startswith(b"\x89PNG")


def test_every_option_predictor_and_the_picture_of_the_page_on_the_solver_are_there():
    text = (DOCS / "solve.md").read_text(encoding="utf-8")
    options = {option.opts[0] for option in solve.params if isinstance(option, click.Option)}
    predictors = {
        kind.__name__
        for kind in GainPredictor.__subclasses__()
        if kind.__module__.startswith("taskgroup.")
    }
    assert all(name in text for name in (*options, *predictors, *SOURCES))
    assert "images/grouping_replay.png" in text
    assert (DOCS / "images" / "grouping_replay.png").read_bytes().startswith(b"\x89PNG")
