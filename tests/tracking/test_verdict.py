"""The verdict says what was found, and no more."""

import pytest

from taskgroup.grouping import Group, Grouping
from taskgroup.intervals import Interval
from taskgroup.tracking.verdict import grouping_verdict

JOINT = Grouping((Group(("a", "b")), Group(("c",))))


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Interval(0.02, 0.01, 0.03, 9), "+0.020 [+0.010, +0.030] mean skill on test rows compared with one network per "
         "property: joining helps."),
        (Interval(0.02, -0.01, 0.05, 9), "joining is not shown to help here."),
        (Interval(-0.02, -0.03, -0.01, 9), "joining hurts here"),
        (None, "was not measured as a whole"),
        (Interval(None, None, None), "was not measured as a whole"),
    ],
)  # fmt: skip
def test_the_interval_on_test_rows_decides(gain, words) -> None:
    sentence = grouping_verdict(JOINT, gain)
    assert sentence.startswith("{a, b} | {c}: 2 networks for 3 properties; ")
    assert words in sentence
    assert "\n" not in sentence


def test_one_network_per_property_is_no_joining() -> None:
    sentence = grouping_verdict(Grouping.singles(["a", "b"]), Interval(0.0, 0.0, 0.0, 9))
    assert sentence == (
        "{a} | {b}: 2 networks for 2 properties, each alone; joining is not shown to help here."
    )


def test_the_odds_against_other_groupings_are_part_of_the_sentence() -> None:
    odds = {"singles": 0.97, "together": 0.999, "correlation": 0.004}
    sentence = grouping_verdict(JOINT, Interval(0.02, 0.01, 0.03, 9), odds)
    assert sentence == (
        "{a, b} | {c}: 2 networks for 3 properties, expected to beat one network per property (97 %), one network for "
        "all (over 99 %) and the correlation grouping (under 1 %); +0.020 [+0.010, +0.030] mean skill on test rows "
        "compared with one network per property: joining helps."
    )
