import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgroup.datasets import Target, TargetScaler, TargetTable
from taskgroup.errors import TargetError

NAN = np.nan
SPECS = (
    Target("modulus", unit="GPa", transform="log10"),
    Target("energy", unit="eV", transform="signed_log"),
    Target("gap", unit="eV"),
    Target("is_metal", kind="classification"),
)


def table(values: list, specs: tuple[Target, ...] = SPECS) -> TargetTable:
    return TargetTable(
        specs, tuple(f"row-{i}" for i in range(len(values))), np.array(values, dtype=float)
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "'a b'"),
        ({"name": "a,b"}, "'a,b'"),
        ({"name": "x", "kind": "regresion"}, "did you mean 'regression'"),
        ({"name": "x", "transform": "log"}, "did you mean"),
        ({"name": "x", "unit": "GPaa"}, "GPaa"),
        ({"name": "x", "kind": "classification", "transform": "log10"}, "no transform"),
    ],
)
def test_a_target_refuses_fields_that_break_their_rule(fields: dict, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        Target(**fields)


def test_transforms_have_their_closed_forms() -> None:
    assert SPECS[0].forward([1, 1000, NAN]) == pytest.approx([0, 3, NAN], nan_ok=True)
    assert SPECS[1].forward([0, 99, -999]) == pytest.approx([0, 2, -3])
    assert SPECS[2].forward([1.5, -2]) == pytest.approx([1.5, -2])


@given(st.lists(st.floats(-1e12, 1e12), min_size=1), st.sampled_from(["none", "signed_log"]))
def test_transforms_come_back_and_keep_order(values: list[float], transform: str) -> None:
    target = Target("x", transform=transform)
    learnt = target.forward(values)
    assert target.inverse(learnt) == pytest.approx(values, rel=1e-9, abs=1e-9)
    assert (np.diff(learnt[np.argsort(values)]) >= 0).all()


@given(st.lists(st.floats(1e-9, 1e12), min_size=1))
def test_log10_comes_back(values: list[float]) -> None:
    assert SPECS[0].inverse(SPECS[0].forward(values)) == pytest.approx(values, rel=1e-9)


def test_predictions_of_a_log10_target_that_left_the_range_of_float32_still_have_a_logarithm() -> (
    None
):
    target = Target("modulus", unit="GPa", transform="log10")
    predictions = np.array([-1.0, 0.0, 1e-300, np.inf, 100.0, np.nan])
    learnt = target.forward_predictions(predictions)
    least, greatest = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    np.testing.assert_allclose(learnt[:4], np.log10([least, least, least, greatest]))
    assert learnt[4] == 2
    assert np.isnan(learnt[5])
    np.testing.assert_array_equal(Target("gap").forward_predictions([-1, np.inf]), [-1, np.inf])


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_log10_of_a_value_that_is_not_positive_names_target_row_and_value(value: float) -> None:
    with pytest.raises(
        TargetError, match=rf"'modulus', row 'row-1': log10 needs values > 0, got {value:g}"
    ):
        table([[1, 0, 0, 0], [value, 0, 0, 0]])


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0])
def test_classes_are_0_and_1(value: float) -> None:
    with pytest.raises(TargetError, match=f"'is_metal', row 'row-1': .*got {value:g}"):
        table([[1, 0, 0, 0], [1, 0, 0, value]])


def test_an_infinite_label_is_refused() -> None:
    with pytest.raises(TargetError, match="'gap', row 'row-0'"):
        table([[1, 0, np.inf, 0]])


def test_shapes_names_and_ids_must_agree() -> None:
    with pytest.raises(TargetError, match="values"):
        TargetTable(SPECS, ("a",), np.zeros((2, 4)))
    with pytest.raises(TargetError, match="id 'a' stands there twice"):
        TargetTable(SPECS[2:3], ("a", "a"), np.zeros((2, 1)))
    with pytest.raises(TargetError, match="name 'gap' stands there twice"):
        TargetTable((SPECS[2], SPECS[2]), ("a",), np.zeros((1, 2)))


def test_tables_are_cut_by_name_row_number_and_mask() -> None:
    full = table([[1, 2, 3, 0], [4, 5, NAN, 1], [7, 8, 9, NAN]])
    part = full.select(["gap", "modulus"]).rows([2, 0])
    assert part.names == ("gap", "modulus")
    assert part.ids == ("row-2", "row-0")
    assert part.values.tolist() == [[9, 7], [3, 1]]
    assert full.rows(np.array([False, True, False])).ids == ("row-1",)
    assert len(full.rows([])) == 0
    assert full.column("energy").tolist() == [2, 5, 8]
    with pytest.raises(TargetError, match="did you mean 'modulus'"):
        full.select(["modulos"])
    with pytest.raises(ValueError, match="read-only"):
        full.values[0, 0] = 5


def test_the_frame_carries_ids_and_units() -> None:
    frame = table([[1, 2, 3, 0], [4, 5, NAN, 1]]).frame()
    assert frame.loc["row-1", "modulus"] == 4
    assert frame.isna().sum().sum() == 1
    assert frame.attrs["units"] == {"modulus": "GPa", "energy": "eV", "gap": "eV", "is_metal": ""}


def two(a: list, b: list) -> TargetTable:
    return table(np.array([a, b]).T.tolist(), (Target("a"), Target("b")))


_ODD = [0.1, 0.7, 0.3, 0.9, 0.5, 0.2]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([NAN] * 6, "'b': every one of its 6 labels is missing"),
        ([7, 7, NAN, 7, 7, 7], "'b': constant, all 5 labels are 7"),
        (_ODD, "'b': equal to target 'a'"),
        ([NAN, *_ODD[1:]], "'b': equal to target 'a'"),
        ([5 - 3 * x for x in _ODD], "'b': an exact linear function of target 'a'"),
    ],
)
def test_targets_that_cannot_be_learnt_or_repeat_another_are_named(other: list, said: str) -> None:
    bad = two(_ODD, other)
    with pytest.raises(TargetError, match=said):
        bad.check()
    assert len(bad.problems()) == 1


@pytest.mark.parametrize(
    "other",
    [
        [0.9, 0.1, 0.8, 0.3, 0.2, 0.6],
        [x + 1e-6 * i for i, x in enumerate(_ODD)],  # nearly equal is two measurements, not one
        [*_ODD[:2], NAN, NAN, NAN, 4],  # too few in common to say
        [x**3 for x in _ODD],  # one decides the other, but not linearly
    ],
)
def test_targets_that_only_resemble_each_other_pass(other: list) -> None:
    two(_ODD, other).check()


def test_the_scaler_gives_mean_0_and_variance_1_of_what_is_learnt_on_its_rows() -> None:
    rng = np.random.default_rng(0)
    values = np.stack(
        [
            10 ** rng.normal(2, 1, 50),
            rng.normal(0, 90, 50),
            rng.normal(3, 2, 50),
            np.arange(50) % 2,
        ],
        1,
    )
    values[rng.random(values.shape) < 0.2] = NAN
    scaler = TargetScaler.fit(SPECS, values[:30])
    z = scaler.encode(values[:30])
    assert np.nanmean(z[:, :3], axis=0) == pytest.approx([0, 0, 0], abs=1e-12)
    assert np.nanstd(z[:, :3], axis=0) == pytest.approx([1, 1, 1])
    assert scaler.mean[0] == pytest.approx(np.nanmean(np.log10(values[:30, 0])))
    np.testing.assert_array_equal(z[:, 3], values[:30, 3])
    np.testing.assert_allclose(scaler.decode(scaler.encode(values)), values, rtol=1e-9)


def test_rows_outside_training_do_not_move_the_scaler() -> None:
    values = np.array([[1, 2, 3, 0], [10, 3, 5, 1], [1e9, -1e9, 1e9, 1]])
    scaler = TargetScaler.fit(SPECS, values[:2])
    assert scaler.mean.tolist() == TargetScaler.fit(SPECS, np.array(values[:2])).mean.tolist()
    assert scaler.mean[2] == 4


def test_the_scaler_survives_json_bit_for_bit() -> None:
    values = np.array([[1 / 3, 2, 3, 0], [10, 3, np.pi, 1]])
    scaler = TargetScaler.fit(SPECS, values)
    back = TargetScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert back.specs == scaler.specs
    np.testing.assert_array_equal(back.mean, scaler.mean)
    np.testing.assert_array_equal(back.encode(values), scaler.encode(values))


def test_a_single_training_label_is_kept_finite_and_none_is_refused() -> None:
    scaler = TargetScaler.fit(SPECS[2:3], [[5.0], [NAN]])
    assert scaler.encode([[5.0], [7.0]]).tolist() == [[0.0], [2.0]]
    with pytest.raises(TargetError, match="'gap': no label among the 2 training rows"):
        TargetScaler.fit(SPECS[2:3], [[NAN], [NAN]])
