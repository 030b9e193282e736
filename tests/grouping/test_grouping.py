"""Groupings are canonical values: equal contents are equal objects, whatever the order they were given in."""

import json
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from taskgroup.errors import GroupingError
from taskgroup.grouping import Group, Grouping

NAMES = ["band_gap", "bandwidth", "bulk_modulus", "density", "energy", "volume", "Å"]


@st.composite
def groupings(draw, names=NAMES):
    """Any grouping of names: labels give the partition, then helpers are added to groups."""
    labels = draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    groups = []
    for label in sorted(set(labels)):
        serves = [name for name, own in zip(names, labels, strict=True) if own == label]
        helpers = draw(st.sets(st.sampled_from(names), max_size=2))
        groups.append(Group(tuple({*serves, *helpers}), tuple(serves)))
    return Grouping(tuple(groups))


@settings(deadline=None)
@given(groupings(), st.randoms())
def test_order_of_names_and_groups_does_not_matter(grouping, random):
    groups = []
    for group in grouping.groups:
        targets, serves = list(group.targets), list(group.serves)
        random.shuffle(targets)
        random.shuffle(serves)
        groups.append(Group(targets, serves))
    random.shuffle(groups)
    again = Grouping(groups)
    assert again == grouping
    assert hash(again) == hash(grouping)
    assert again.grouping_id == grouping.grouping_id
    assert str(again) == str(grouping)


@settings(deadline=None)
@given(groupings())
def test_json_and_pickle_round_trips_keep_the_value(grouping):
    assert Grouping.from_json(grouping.to_json()) == grouping
    assert pickle.loads(pickle.dumps(grouping)) == grouping


@settings(deadline=None)
@given(groupings(), groupings())
def test_ids_are_equal_exactly_where_groupings_are(one, other):
    assert (one.grouping_id == other.grouping_id) == (one == other)


@settings(deadline=None)
@given(groupings())
def test_every_target_is_served_exactly_once(grouping):
    assert sorted(name for group in grouping.groups for name in group.serves) == sorted(NAMES)
    for name in NAMES:
        assert name in grouping.serving(name).serves
    assert grouping.is_partition == (not any(group.helpers for group in grouping.groups))


def test_the_id_is_the_same_in_another_process():
    code = "from taskgroup.grouping import Grouping as G; print(G.from_partition([['b', 'a'], ['c']]).grouping_id)"
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == Grouping.from_partition([["c"], ["a", "b"]]).grouping_id
    assert len(there) == 12
    assert int(there, 16) >= 0


def test_helpers_stand_behind_a_plus():
    grouping = Grouping(
        (Group(["helper", "b", "a"], serves=["b", "a"]), Group(["helper", "c"], ["helper", "c"]))
    )
    assert str(grouping) == "{a, b + helper} | {c, helper}"
    assert grouping.serving("helper").targets == ("c", "helper")
    assert grouping.groups[0].helpers == ("helper",)


def test_groups_of_equal_targets_are_one_network():
    assert Grouping((Group(["a", "b"], ["a"]), Group(["a", "b"], ["b"]))) == Grouping.together(
        ["a", "b"]
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Group([]), "at least one name"),
        (lambda: Group("abc"), "'abc'"),
        (lambda: Group(["a", "a"]), "repeat"),
        (lambda: Group(["a", 3]), "3"),
        (lambda: Group(["a", ""]), "non-empty"),
        (lambda: Group(["a"], ["b"]), r"\['b'\]"),
        (lambda: Group(["a"], []), "at least one name"),
        (lambda: Grouping(()), "at least one group"),
        (
            lambda: Grouping.from_partition([["a", "b"], ["b", "c"]]),
            r"\['b'\] are served more than once",
        ),
        (lambda: Grouping((Group(["a", "b"], ["a"]),)), r"no group serves \['b'\]"),
        (lambda: Grouping.random(["a", "b"], k=3, seed=0), "between 1 and"),
        (lambda: Grouping.singles(["volume"]).serving("volum"), "did you mean 'volume'"),
        (lambda: Grouping.singles(["a"]).merge(), "at least one target"),
        (
            lambda: Grouping.singles(["a", "b"]).distance(Grouping.singles(["a", "c"])),
            r"\['b', 'c'\]",
        ),
        (lambda: Grouping((Group(["a", "b"], ["a"]), Group(["b"]))).to_nested(), "helpers"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_one_line(make, told):
    with pytest.raises(GroupingError, match=told) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{}", '{"groups": 1}', '{"groups": [["a"]]}', '{"groups": [{"targets": 1}]}'],
)
def test_json_of_something_else_is_refused(text):
    with pytest.raises(GroupingError, match="must look like"):
        Grouping.from_json(text)


def test_json_with_wrong_groups_says_which_rule():
    text = json.dumps({"groups": [{"targets": ["a"], "serves": ["b"]}]})
    with pytest.raises(GroupingError, match="must be among its targets"):
        Grouping.from_json(text)


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**31), st.permutations(NAMES))
def test_random_groupings_are_balanced_and_do_not_depend_on_order(k, seed, names):
    grouping = Grouping.random(names, k, seed)
    sizes = [len(group) for group in grouping.groups]
    assert len(sizes) == k
    assert max(sizes) - min(sizes) <= 1
    assert grouping == Grouping.random(NAMES, k, seed)


def test_random_groupings_differ_between_seeds():
    assert len({Grouping.random(NAMES, 3, seed) for seed in range(20)}) > 10


def test_singles_and_together_are_the_two_ends():
    assert len(Grouping.singles(NAMES)) == len(NAMES)
    assert len(Grouping.together(NAMES)) == 1
    assert Grouping.random(NAMES, 1, 0) == Grouping.together(NAMES)
    assert Grouping.random(NAMES, len(NAMES), 0) == Grouping.singles(NAMES)
    assert Grouping.singles(NAMES).merge(*NAMES) == Grouping.together(NAMES)


@settings(deadline=None)
@given(groupings().filter(lambda grouping: grouping.is_partition))
def test_nested_lists_round_trip(grouping):
    assert Grouping.from_nested(grouping.to_nested()) == grouping
    assert Grouping.from_nested([list(group.targets) for group in grouping.groups]) == grouping


_TWO_BECOME_ONE = Grouping(
    (
        Group(("band_gap", "bandwidth", "bulk_modulus", "density"), serves=("band_gap", "density")),
        Group(("bandwidth", "energy", "volume")),
        Group(("bandwidth", "bulk_modulus", "density"), serves=("bulk_modulus",)),
        Group(("Å",)),
    )
)


@settings(deadline=None)
@given(groupings(), st.sampled_from(NAMES), st.sampled_from(NAMES))
@example(_TWO_BECOME_ONE, "band_gap", "bandwidth")
def test_moving_lands_where_it_was_told_and_keeps_the_others(grouping, target, to):
    moved = grouping.move(target, to=to)
    assert moved.serving(target) == moved.serving(to)
    assert moved.targets == grouping.targets
    home, goal = grouping.serving(target), grouping.serving(to)

    def held(name):
        """What the group of a target holds once the other has moved; groups that then hold the same are one."""
        group = grouping.serving(name)
        if home != goal and group in (home, goal):
            return set(group.targets) ^ {target} if group == home else {*group.targets, target}
        return set(group.targets)

    rest = [name for name in NAMES if name != target]
    before = [[held(a) == held(b) for a in rest] for b in rest]
    assert [[moved.serving(a) == moved.serving(b) for a in rest] for b in rest] == before


@settings(deadline=None)
@given(groupings(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_splitting_what_was_merged_gives_a_group_of_its_own(grouping, one, other):
    assert grouping.merge(one, other).serving(one) == grouping.merge(one, other).serving(other)
    alone = grouping.split(one, *([other] if other != one else []))
    assert set(alone.serving(one).targets) == {one, other}
    assert alone.targets == grouping.targets


def test_a_helper_stays_a_helper_when_it_moves_elsewhere():
    grouping = Grouping((Group(["a", "b"], ["a"]), Group(["b", "c"])))
    assert str(grouping.move("c", to="a")) == "{a, c + b} | {b}"
    assert str(grouping.move("b", to="a")) == "{a, b} | {c}"
    assert str(grouping.split("b")) == "{a + b} | {b} | {c}"


@settings(deadline=None)
@given(groupings(), groupings(), groupings())
def test_variation_of_information_is_a_metric(a, b, c):
    vi = Grouping.variation_of_information
    same = all(
        (a.serving(x) == a.serving(y)) == (b.serving(x) == b.serving(y))
        for x in NAMES
        for y in NAMES
    )
    assert (vi(a, b) < 1e-9) == same
    assert vi(a, b) == pytest.approx(vi(b, a))
    assert vi(a, c) <= vi(a, b) + vi(b, c) + 1e-9


def test_distances_have_their_known_values():
    ends = Grouping.together(NAMES), Grouping.singles(NAMES)
    assert ends[0].variation_of_information(ends[1]) == pytest.approx(math.log(len(NAMES)))
    assert ends[0].distance(ends[1]) == pytest.approx(1.0)
    assert ends[0].distance(ends[0]) == 0.0
    # Hubert and Arabie's index by hand: of the 6 pairs 1 is together in both, 2 in each, expected 2 * 2 / 6
    one, other = (
        Grouping.from_partition([["a", "b", "c"], ["d"]]),
        Grouping.from_partition([["a", "b"], ["c", "d"]]),
    )
    expected = 3 * 2 / 6
    assert one.distance(other) == pytest.approx(1 - (1 - expected) / ((3 + 2) / 2 - expected))


def test_variation_of_information_agrees_with_normalised_mutual_information():
    one, other = Grouping.random(NAMES, 3, 1), Grouping.random(NAMES, 2, 5)
    entropies = [g.variation_of_information(Grouping.together(NAMES)) for g in (one, other)]
    information = (sum(entropies) - one.variation_of_information(other)) / 2
    assert information / (sum(entropies) / 2) == pytest.approx(
        normalized_mutual_info_score(one.labels(), other.labels())
    )


def test_words_are_read_back():
    cover = Grouping((Group(("a", "b", "c"), ("a", "b")), Group(("c",))))
    assert Grouping.from_words(str(cover)) == cover
    with pytest.raises(GroupingError, match="must look like"):
        Grouping.from_words("a, b")


def test_a_grouping_comes_out_as_a_frame():
    frame = Grouping((Group(("a", "b"), ("a",)), Group(("b",)))).frame()
    assert frame.to_dict("list") == {
        "target": ["a", "b", "b"],
        "group": [1, 1, 2],
        "role": ["served", "helper", "served"],
    }
