import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgroup.datasets import Splits, load_dataset, make_splits
from taskgroup.errors import ConfigError

KEYS = st.lists(st.integers(0, 12).map(str), min_size=5, max_size=60).filter(
    lambda k: len(set(k)) >= 5
)


@given(KEYS, st.integers(3, 5), st.integers(0, 9))
def test_every_row_is_once_in_test_and_no_group_is_parted(
    keys: list[str], folds: int, seed: int
) -> None:
    splits = make_splits(keys, "formula", folds, seed)
    tested = []
    for fold in range(folds):
        split = splits.split(fold, (fold + 1) % folds)
        parts = [split.train, split.validation, split.test]
        assert sorted(np.concatenate(parts)) == list(range(len(keys)))
        assert all(len(part) for part in parts)
        groups = [{keys[i] for i in part} for part in parts]
        assert sum(map(len, groups)) == len(set(keys))
        tested += split.test.tolist()
    assert sorted(tested) == list(range(len(keys)))


@given(KEYS, st.randoms(use_true_random=False))
def test_the_fold_of_a_group_does_not_depend_on_the_order_of_rows(keys: list[str], random) -> None:
    order = list(range(len(keys)))
    random.shuffle(order)
    straight = make_splits(keys, "formula", 4, seed=3).fold_of_row
    shuffled = make_splits([keys[i] for i in order], "formula", 4, seed=3).fold_of_row
    assert shuffled.tolist() == straight[order].tolist()


@given(KEYS, st.integers(3, 5))
def test_folds_differ_by_no_more_than_the_largest_group(keys: list[str], folds: int) -> None:
    sizes = np.bincount(make_splits(keys, "formula", folds).fold_of_row)
    assert np.ptp(sizes) <= max(keys.count(key) for key in keys)


def test_seeds_give_other_splits_with_other_ids_and_the_same_seed_the_same() -> None:
    keys = [str(i) for i in range(40)]
    ids = {make_splits(keys, "random", seed=seed).id for seed in range(10)}
    assert len(ids) == 10
    assert make_splits(keys, "random", seed=3).id in ids
    splits = make_splits(keys, "random")
    assert splits.split(0, 1).id == splits.split(0, 1).id
    assert splits.split(0, 1).id != splits.split(1, 0).id


def test_a_split_is_what_it_always_was() -> None:
    # Frozen: results and bundles name splits by these ids.
    splits = make_splits(
        ["NaCl", "NaCl", "Si", "GaAs", "Fe", "Cu", "Ag"], "formula", folds=3, seed=0
    )
    assert splits.fold_of_row.tolist() == [0, 0, 1, 2, 0, 1, 2]
    assert splits.id == "b46d07659447"


def test_splits_survive_json_by_row_and_a_split_file_survives_another_row_order() -> None:
    ids = [f"mp-{i}" for i in range(20)]
    splits = make_splits(ids, "random", seed=5)
    assert Splits.from_dict(splits.to_dict()).id == splits.id
    text = splits.to_json(ids)
    assert Splits.from_json(text, ids).id == splits.id
    back = Splits.from_json(text, ids[::-1])
    assert back.fold_of_row.tolist() == splits.fold_of_row[::-1].tolist()
    with pytest.raises(ConfigError, match="no fold for 1 rows, the first is 'mp-99'"):
        Splits.from_json(text, [*ids, "mp-99"])


@pytest.mark.parametrize(
    ("keys", "folds", "said"),
    [("abcdef", 2, "at least 3"), ("aabb", 3, "3 folds need as many groups by formula, got 2")],
)
def test_folds_that_cannot_be_are_refused(keys: str, folds: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_splits(list(keys), "formula", folds)


@pytest.mark.parametrize(("test", "validation"), [(5, 1), (0, -1), (2, 2)])
def test_a_fold_that_is_not_there_or_twice_used_is_refused(test: int, validation: int) -> None:
    with pytest.raises(ConfigError, match="fold"):
        make_splits("abcdefgh", "formula").split(test, validation)


@pytest.mark.parametrize("by", ["chemical_system", "formula", "random"])
def test_the_crystals_split_without_leak_into_even_folds(by: str) -> None:
    data = load_dataset("crystals")
    splits = data.splits(by=by, folds=5, seed=1)
    sizes = np.bincount(splits.fold_of_row, minlength=5)
    assert sizes.min() > 0.8 * len(data) / 5
    keys = {"chemical_system": data.chemical_systems, "formula": data.formulas, "random": data.ids}[
        by
    ]
    folds_of: dict[str, set] = {}
    for key, fold in zip(keys, splits.fold_of_row, strict=True):
        folds_of.setdefault(key, set()).add(int(fold))
    assert all(len(folds) == 1 for folds in folds_of.values())


def test_an_unknown_way_to_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'formula'"):
        load_dataset("crystals").splits(by="formulas")
