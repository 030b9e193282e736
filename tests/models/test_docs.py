"""Examples in docstrings run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["models", "models.config", "models.versions", "models.views.rows"]
)
def test_examples_give_what_they_say(module):
    result = doctest.testmod(importlib.import_module(f"taskgroup.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
