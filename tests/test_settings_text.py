"""Hyper-parameters in words."""

import doctest

from taskgroup import settings_text
from taskgroup.settings_text import common_and_own, differing_names, flat, in_words


def test_the_examples_hold() -> None:
    assert doctest.testmod(settings_text).failed == 0


def test_lists_may_differ_and_are_written_short() -> None:
    rows = [{"widths": [0.4, 0.8], "lr": 0.1}, {"widths": [0.4], "lr": 0.1}]
    assert differing_names(rows) == ["widths"]
    assert in_words(rows[0], ["widths", "absent"]) == "widths (0.4 0.8)"


def test_a_setting_that_one_row_lacks_is_none_that_they_share() -> None:
    rows = [{"k": 2, "lr": 0.1}, {"lr": 0.1}]
    assert differing_names(rows) == []
    assert common_and_own(rows) == ({"lr": 0.1}, [{"k": 2}, {}])
    assert flat({"a": {"b": {"c": 1}}}, "hp/") == {"hp/a.b.c": 1}
